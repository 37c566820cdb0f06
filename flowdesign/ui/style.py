"""The look of the page: theme, style sheet and page script, all served from here (no network)."""

import gradio as gr

from flowdesign.catalog import ROOT

ASSETS = ROOT / "assets"

_PETROL = gr.themes.Color(
    c50="#eef7f7", c100="#d8edec", c200="#b3dbd9", c300="#85c4c0", c400="#4ea7a3",
    c500="#26898a", c600="#0b6b6b", c700="#0a5858", c800="#0b4848", c900="#0c3b3b", c950="#062524",
)  # fmt: skip
_STONE = gr.themes.Color(
    c50="#f6f8f9", c100="#f1f4f5", c200="#dce2e6", c300="#c3ccd3", c400="#95a3af",
    c500="#6b7985", c600="#56636f", c700="#3b4650", c800="#2b363f", c900="#171e24", c950="#0f1418",
)  # fmt: skip


def theme() -> gr.themes.Base:
    """Gradio's base theme in FlowDesign's colours, light and dark."""
    base = gr.themes.Base(
        primary_hue=_PETROL,
        secondary_hue=_PETROL,
        neutral_hue=_STONE,
        radius_size=gr.themes.sizes.radius_md,
        # Gradio's own copy; its SemiBold file lacks most Latin letters, so bold is 700.
        font=(
            gr.themes.LocalFont("IBM Plex Sans", weights=(400, 700)),
            "ui-sans-serif",
            "system-ui",
            "sans-serif",
        ),
        font_mono=("ui-monospace", "SFMono-Regular", "Menlo", "monospace"),
    )
    return base.set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        body_text_color="#18222b",
        body_text_color_dark="#e8edf1",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="#9eacb8",
        block_background_fill="transparent",
        block_background_fill_dark="transparent",
        block_border_width="0px",
        block_padding="0px",
        block_shadow="none",
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        block_title_text_weight="600",
        block_title_text_color="*body_text_color",
        block_title_text_color_dark="*body_text_color",
        block_info_text_color="*body_text_color_subdued",
        block_info_text_color_dark="*body_text_color_subdued",
        input_background_fill="#ffffff",
        input_background_fill_dark="#10161b",
        input_border_color="*neutral_300",
        input_border_color_dark="#3b4650",
        input_border_width="1px",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="#8593a0",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="#63cbc3",
        button_primary_background_fill_hover_dark="#86dad3",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#06211f",
        button_secondary_background_fill="#ffffff",
        button_secondary_background_fill_dark="#1e272e",
        button_secondary_border_color="*neutral_300",
        button_secondary_border_color_dark="#3b4650",
        slider_color="*primary_600",
        slider_color_dark="#63cbc3",
        checkbox_background_color_selected="*primary_600",
        checkbox_background_color_selected_dark="#2c8a85",
        panel_background_fill="transparent",
        panel_background_fill_dark="transparent",
    )


def css() -> str:
    """The project's own rules."""
    sheets = ("style.css", "label.css", "data.css", "train.css", "results.css", "ablation.css")
    return "\n".join((ASSETS / name).read_text(encoding="utf-8") for name in sheets)


def head() -> str:
    """What goes into the page's head: keyboard shortcuts and dropping files."""
    script = (ASSETS / "page.js").read_text(encoding="utf-8")
    return f"<script>\n{script}</script>"
