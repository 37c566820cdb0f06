"""The app: `python app.py [--host H] [--port P]`, or HOST and PORT in the environment.

The address is http://127.0.0.1:7860 unless told otherwise; a Hugging Face Space runs this file.
"""

import argparse
import os

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # before gradio is imported
# Before torch is: how long threads spin while they wait. As long as they do by default, a design takes ten times as long
# beside a training run; not at all, a fifth longer when the app is alone. Measured between the two.
os.environ.setdefault("GOMP_SPINCOUNT", "3000")

from flowdesign.ui import run

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="FlowDesign in the browser.")
    parser.add_argument("--host", default=os.environ.get("HOST"), help="default 127.0.0.1")
    parser.add_argument("--port", type=int, default=os.environ.get("PORT", 7860))
    flags = parser.parse_args()
    run(flags.host, flags.port)
