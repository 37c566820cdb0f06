"""The app: `python app.py [--host H] [--port P]`, or HOST and PORT in the environment.

The address is http://127.0.0.1:7860 unless told otherwise; a Hugging Face Space runs this file.
"""

import argparse
import os

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # before gradio is imported
# Before torch is: threads that spin while they wait make it ten times slower beside a training run.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from flowdesign.ui import run

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="FlowDesign in the browser.")
    parser.add_argument("--host", default=os.environ.get("HOST"), help="default 127.0.0.1")
    parser.add_argument("--port", type=int, default=os.environ.get("PORT", 7860))
    flags = parser.parse_args()
    run(flags.host, flags.port)
