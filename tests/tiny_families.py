"""Random models of the families beside SD 1 and SDXL, and the usual graph of FLUX.1.

<folder>/checkpoints/tiny_sd2        v-prediction, OpenCLIP without its last layer
<folder>/checkpoints/tiny_refiner    SDXL's refiner: the second encoder, five numbers with a score
<folder>/checkpoints/tiny_sd3        two CLIPs and T5, a transformer with 16 latent channels
<folder>/checkpoints/tiny_flux       CLIP and T5, a transformer that is told its guidance
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
    UNet2DConditionModel,
)
from original_names import LAYOUTS, single_file
from tiny_models import (
    BETAS,
    WIDTH,
    WORDS,
    added_config,
    clip_config,
    letter_tokenizer,
    tiny_vae,
    unet_config,
    write_tiny_models,
)
from tiny_workflows import PROMPT, SEED, node, txt2img
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    CLIPTextModel,
    CLIPTextModelWithProjection,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)

from flowdesign.render import OPERATIONS
from flowdesign.render.models import Library
from flowdesign.render.operation import Context
from flowdesign.workflow import Workflow, source, topological_order

T5_WIDTH = 2 * WIDTH


def write_sd2(folder: Path) -> None:
    words = letter_tokenizer(folder / "letters")
    config = clip_config(len(words), words)
    config.hidden_act = "gelu"
    StableDiffusionPipeline(
        vae=tiny_vae(4, 0.18215),
        text_encoder=CLIPTextModel(config),
        tokenizer=words,
        unet=UNet2DConditionModel(
            **unet_config(4, layers=1, attention_head_dim=(2, 4)), use_linear_projection=True
        ),
        scheduler=EulerDiscreteScheduler(**BETAS, prediction_type="v_prediction"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder / "checkpoints" / "tiny_sd2")


def write_refiner(folder: Path) -> None:
    words = letter_tokenizer(folder / "letters")
    numbers = {"projection_class_embeddings_input_dim": WIDTH + 5 * 8}
    StableDiffusionXLImg2ImgPipeline(
        vae=tiny_vae(4, 0.13025),
        text_encoder=None,
        text_encoder_2=open_clip(words),
        tokenizer=None,
        tokenizer_2=words,
        unet=UNet2DConditionModel(**unet_config(4, layers=1) | added_config(WIDTH) | numbers),
        scheduler=EulerDiscreteScheduler(**BETAS),
        requires_aesthetics_score=True,
        add_watermarker=False,
    ).save_pretrained(folder / "checkpoints" / "tiny_refiner")


def write_sd3(folder: Path) -> None:
    words = letter_tokenizer(folder / "letters")
    first = CLIPTextModelWithProjection(clip_config(len(words), words))
    first.text_projection.weight.data.copy_(torch.eye(WIDTH))  # as the published one has it
    StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(
            sample_size=8,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=T5_WIDTH,
            caption_projection_dim=32,
            pooled_projection_dim=2 * WIDTH,
            pos_embed_max_size=16,
            dual_attention_layers=(0,),
            qk_norm="rms_norm",
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=flow_vae(1.5305, 0.0609),
        text_encoder=first,
        tokenizer=words,
        text_encoder_2=open_clip(words),
        tokenizer_2=letter_tokenizer(folder / "letters"),
        text_encoder_3=t5(),
        tokenizer_3=t5_tokenizer(),
    ).save_pretrained(folder / "checkpoints" / "tiny_sd3")


def write_flux(folder: Path) -> None:
    words = letter_tokenizer(folder / "letters")
    FluxPipeline(
        transformer=FluxTransformer2DModel(
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=T5_WIDTH,
            pooled_projection_dim=WIDTH,
            guidance_embeds=True,
            axes_dims_rope=(4, 6, 6),
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=flow_vae(0.3611, 0.1159),
        text_encoder=CLIPTextModel(clip_config(len(words), words)),
        tokenizer=words,
        text_encoder_2=t5(),
        tokenizer_2=t5_tokenizer(),
    ).save_pretrained(folder / "checkpoints" / "tiny_flux")


def open_clip(words: Any) -> CLIPTextModelWithProjection:
    config = clip_config(len(words), words)
    config.hidden_act = "gelu"
    return CLIPTextModelWithProjection(config)


def flow_vae(scaling: float, shift: float) -> AutoencoderKL:
    config = dict(tiny_vae(16, scaling).config)
    del config["_use_default_values"]  # else these would be
    config |= {"shift_factor": shift, "use_quant_conv": False, "use_post_quant_conv": False}
    return AutoencoderKL.from_config(config)


def t5() -> T5EncoderModel:
    config = T5Config(
        vocab_size=32, d_model=T5_WIDTH, d_kv=16, d_ff=64, num_layers=2, num_heads=4,
        feed_forward_proj="gated-gelu", is_encoder_decoder=False, tie_word_embeddings=False,
    )  # fmt: skip
    config.architectures = ["T5EncoderModel"]
    return T5EncoderModel(config)


def t5_tokenizer() -> PreTrainedTokenizerFast:
    """One token per known word, and an end."""
    names = ["<pad>", "</s>", "<unk>", *WORDS]
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(names)}, "<unk>"))
    inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"\w+|[^\w\s]"), "removed", invert=True)
    inner.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )


def write_families(folder: Path) -> Path:
    """Write the models of every family as folders, and as single files in checkpoints/files."""
    write_tiny_models(folder)
    for write in (write_sd2, write_refiner, write_sd3, write_flux):
        write(folder)
    for name in LAYOUTS:
        single_file(folder, name, folder / "checkpoints" / "files")
    return folder


# --- graphs ---------------------------------------------------------------------------------------

FLOW_STEPS = 4  # divides the number of training steps, so that diffusers' sigmas are ours


def flow_graph(checkpoint: str, scheduler: str = "simple", **inputs: Any) -> Workflow:
    """The plainest workflow of a flow-matching model, at cfg 4."""
    return txt2img(checkpoint, scheduler=scheduler, steps=FLOW_STEPS, **inputs)


def custom() -> Workflow:
    """FLUX.1's usual graph: sampling taken apart."""
    workflow = {
        "ckpt": node("CheckpointLoaderSimple", ckpt_name="tiny_flux"),
        "yes": node("CLIPTextEncode", text=PROMPT, clip=["ckpt", 1]),
        "told": node("FluxGuidance", conditioning=["yes", 0], guidance=2.5),
        "empty": node("EmptySD3LatentImage", width=64, height=64, batch_size=1),
        "noise": node("RandomNoise", noise_seed=SEED),
        "name": node("KSamplerSelect", sampler_name="euler"),
        "levels": node(
            "BasicScheduler", model=["ckpt", 0], scheduler="simple", steps=FLOW_STEPS, denoise=1.0
        ),
        "guider": node("BasicGuider", model=["ckpt", 0], conditioning=["told", 0]),
        "sample": node(
            "SamplerCustomAdvanced", noise=["noise", 0], guider=["guider", 0], sampler=["name", 0],
            sigmas=["levels", 0], latent_image=["empty", 0],
        ),
        "decode": node("VAEDecode", samples=["sample", 0], vae=["ckpt", 2]),
        "save": node("SaveImage", images=["decode", 0], filename_prefix="x"),
    }  # fmt: skip
    return workflow


def value_of(models: Any, workflow: Workflow, name: str, slot: int = 0) -> Any:
    """What a node gives, each node run by its row in the renderer's table."""
    context = Context(Library(models), torch.device("cpu"), 1, lambda: None)
    made: dict[str, tuple[Any, ...]] = {}
    for each in topological_order(workflow, [name]):
        inputs = dict(workflow[each]["inputs"])
        for key in inputs:
            if (link := source(workflow, each, key)) is not None:
                inputs[key] = made[link[0]][link[1]]
        with torch.no_grad():
            (made[each],) = OPERATIONS[workflow[each]["class_type"]](context, [inputs])
    return made[name][slot]
