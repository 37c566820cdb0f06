"""What a ComfyUI 0.3.64 server checks of a request to /prompt, written down as facts.

Independent of `flowdesign.nodes` on purpose: the tests compare the two.
"""

from dataclasses import dataclass
from typing import Any

SAMPLERS = (
    "euler", "euler_cfg_pp", "euler_ancestral", "euler_ancestral_cfg_pp", "heun", "heunpp2",
    "dpm_2", "dpm_2_ancestral", "lms", "dpm_fast", "dpm_adaptive", "dpmpp_2s_ancestral",
    "dpmpp_2s_ancestral_cfg_pp", "dpmpp_sde", "dpmpp_sde_gpu", "dpmpp_2m", "dpmpp_2m_cfg_pp",
    "dpmpp_2m_sde", "dpmpp_2m_sde_gpu", "dpmpp_2m_sde_heun", "dpmpp_2m_sde_heun_gpu",
    "dpmpp_3m_sde", "dpmpp_3m_sde_gpu", "ddpm", "lcm", "ipndm", "ipndm_v", "deis",
    "res_multistep", "res_multistep_cfg_pp", "res_multistep_ancestral",
    "res_multistep_ancestral_cfg_pp", "gradient_estimation", "gradient_estimation_cfg_pp", "er_sde",
    "seeds_2", "seeds_3", "sa_solver", "sa_solver_pece", "ddim", "uni_pc", "uni_pc_bh2",
)  # fmt: skip
SCHEDULERS = (
    "simple", "sgm_uniform", "karras", "exponential", "ddim_uniform", "beta", "normal",
    "linear_quadratic", "kl_optimal",
)  # fmt: skip
LATENT = ("nearest-exact", "bilinear", "area", "bicubic", "bislerp")
IMAGE = ("nearest-exact", "bilinear", "area", "bicubic", "lanczos")
SEED = (0, 2**64 - 1)


@dataclass(frozen=True)
class InputRule:
    """Name and type of an input, its range or its fixed options (none: a list of files)."""

    name: str
    type: str
    low: float | None = None
    high: float | None = None
    options: tuple[str, ...] = ()
    optional: bool = False


@dataclass(frozen=True)
class Rule:
    """Inputs in the order of `widgets_values`, and the types of the outputs."""

    inputs: tuple[InputRule, ...]
    outputs: tuple[str, ...] = ()


def _rule(inputs: str, outputs: str = "", **options: tuple[str, ...]) -> Rule:
    """Read "name:TYPE" or "name:TYPE:low:high" for each input."""
    found = []
    for text in inputs.split():
        name, kind, *limits = text.split(":")
        optional = limits == ["optional"]
        numbers = [] if optional else limits
        low, high = (float(limit) for limit in numbers) if numbers else (None, None)
        if kind == "SEED":
            kind, low, high = "INT", *SEED
        found.append(InputRule(name, kind, low, high, options.get(name, ()), optional))
    return Rule(tuple(found), tuple(outputs.split()))


_SAMPLING = (
    "steps:INT:1:10000 cfg:FLOAT:0:100 sampler_name:COMBO scheduler:COMBO "
    "positive:CONDITIONING negative:CONDITIONING latent_image:LATENT"
)
_NAMES: dict[str, tuple[str, ...]] = {"sampler_name": SAMPLERS, "scheduler": SCHEDULERS}
_TO = "upscale_method:COMBO width:INT:0:16384 height:INT:0:16384 crop:COMBO"
_CROP = ("disabled", "center")
_SWITCH = ("enable", "disable")
_CLIP_TYPES = (
    "stable_diffusion", "stable_cascade", "sd3", "stable_audio", "mochi", "ltxv", "pixart", "cosmos",
    "lumina2", "wan", "hidream", "chroma", "ace", "omnigen2", "qwen_image", "hunyuan_image",
)  # fmt: skip

RULES = {
    "CheckpointLoaderSimple": _rule("ckpt_name:COMBO", "MODEL CLIP VAE"),
    "VAELoader": _rule("vae_name:COMBO", "VAE"),
    "LoraLoader": _rule(
        "model:MODEL clip:CLIP lora_name:COMBO strength_model:FLOAT:-100:100 "
        "strength_clip:FLOAT:-100:100",
        "MODEL CLIP",
    ),
    "UpscaleModelLoader": _rule("model_name:COMBO", "UPSCALE_MODEL"),
    "CLIPSetLastLayer": _rule("clip:CLIP stop_at_clip_layer:INT:-24:-1", "CLIP"),
    "CLIPTextEncode": _rule("text:STRING clip:CLIP", "CONDITIONING"),
    "ConditioningConcat": _rule(
        "conditioning_to:CONDITIONING conditioning_from:CONDITIONING", "CONDITIONING"
    ),
    "ConditioningCombine": _rule(
        "conditioning_1:CONDITIONING conditioning_2:CONDITIONING", "CONDITIONING"
    ),
    "ConditioningZeroOut": _rule("conditioning:CONDITIONING", "CONDITIONING"),
    "ConditioningAverage": _rule(
        "conditioning_to:CONDITIONING conditioning_from:CONDITIONING "
        "conditioning_to_strength:FLOAT:0:1",
        "CONDITIONING",
    ),
    "ConditioningSetArea": _rule(
        "conditioning:CONDITIONING width:INT:64:16384 height:INT:64:16384 x:INT:0:16384 "
        "y:INT:0:16384 strength:FLOAT:0:10",
        "CONDITIONING",
    ),
    "ConditioningSetAreaPercentage": _rule(
        "conditioning:CONDITIONING width:FLOAT:0:1 height:FLOAT:0:1 x:FLOAT:0:1 y:FLOAT:0:1 "
        "strength:FLOAT:0:10",
        "CONDITIONING",
    ),
    "ConditioningSetAreaStrength": _rule(
        "conditioning:CONDITIONING strength:FLOAT:0:10", "CONDITIONING"
    ),
    "ConditioningSetTimestepRange": _rule(
        "conditioning:CONDITIONING start:FLOAT:0:1 end:FLOAT:0:1", "CONDITIONING"
    ),
    "EmptyLatentImage": _rule(
        "width:INT:16:16384 height:INT:16:16384 batch_size:INT:1:4096", "LATENT"
    ),
    "LatentUpscaleBy": _rule(
        "samples:LATENT upscale_method:COMBO scale_by:FLOAT:0.01:8", "LATENT",
        upscale_method=LATENT,
    ),
    "LatentUpscale": _rule(
        f"samples:LATENT {_TO}", "LATENT", upscale_method=LATENT, crop=_CROP
    ),
    "VAEDecode": _rule("samples:LATENT vae:VAE", "IMAGE"),
    "VAEEncode": _rule("pixels:IMAGE vae:VAE", "LATENT"),
    "KSampler": _rule(
        f"model:MODEL seed:SEED {_SAMPLING} denoise:FLOAT:0:1", "LATENT", **_NAMES
    ),
    "KSamplerAdvanced": _rule(
        f"model:MODEL add_noise:COMBO noise_seed:SEED {_SAMPLING} start_at_step:INT:0:10000 "
        "end_at_step:INT:0:10000 return_with_leftover_noise:COMBO",
        "LATENT", add_noise=_SWITCH, return_with_leftover_noise=_SWITCH, **_NAMES,
    ),
    "FreeU_V2": _rule(
        "model:MODEL b1:FLOAT:0:10 b2:FLOAT:0:10 s1:FLOAT:0:10 s2:FLOAT:0:10", "MODEL"
    ),
    "PerturbedAttentionGuidance": _rule("model:MODEL scale:FLOAT:0:100", "MODEL"),
    "RescaleCFG": _rule("model:MODEL multiplier:FLOAT:0:1", "MODEL"),
    "ImageUpscaleWithModel": _rule("upscale_model:UPSCALE_MODEL image:IMAGE", "IMAGE"),
    "ImageScaleBy": _rule(
        "image:IMAGE upscale_method:COMBO scale_by:FLOAT:0.01:8", "IMAGE", upscale_method=IMAGE
    ),
    "ImageScale": _rule(f"image:IMAGE {_TO}", "IMAGE", upscale_method=IMAGE, crop=_CROP),
    "SaveImage": _rule("images:IMAGE filename_prefix:STRING"),
    "PreviewImage": _rule("images:IMAGE"),
    "UNETLoader": _rule(
        "unet_name:COMBO weight_dtype:COMBO", "MODEL",
        weight_dtype=("default", "fp8_e4m3fn", "fp8_e4m3fn_fast", "fp8_e5m2"),
    ),
    "CLIPLoader": _rule(
        "clip_name:COMBO type:COMBO device:COMBO:optional", "CLIP",
        type=_CLIP_TYPES, device=("default", "cpu"),
    ),
    "DualCLIPLoader": _rule(
        "clip_name1:COMBO clip_name2:COMBO type:COMBO device:COMBO:optional", "CLIP",
        type=("sdxl", "sd3", "flux", "hunyuan_video", "hidream", "hunyuan_image"),
        device=("default", "cpu"),
    ),
    "TripleCLIPLoader": _rule("clip_name1:COMBO clip_name2:COMBO clip_name3:COMBO", "CLIP"),
    "LoraLoaderModelOnly": _rule(
        "model:MODEL lora_name:COMBO strength_model:FLOAT:-100:100", "MODEL"
    ),
    "ModelSamplingSD3": _rule("model:MODEL shift:FLOAT:0:100", "MODEL"),
    "ModelSamplingFlux": _rule(
        "model:MODEL max_shift:FLOAT:0:100 base_shift:FLOAT:0:100 width:INT:16:16384 "
        "height:INT:16:16384",
        "MODEL",
    ),
    "CLIPTextEncodeSDXL": _rule(
        "clip:CLIP width:INT:0:16384 height:INT:0:16384 crop_w:INT:0:16384 crop_h:INT:0:16384 "
        "target_width:INT:0:16384 target_height:INT:0:16384 text_g:STRING text_l:STRING",
        "CONDITIONING",
    ),
    "CLIPTextEncodeSDXLRefiner": _rule(
        "ascore:FLOAT:0:1000 width:INT:0:16384 height:INT:0:16384 text:STRING clip:CLIP",
        "CONDITIONING",
    ),
    "FluxGuidance": _rule("conditioning:CONDITIONING guidance:FLOAT:0:100", "CONDITIONING"),
    "EmptySD3LatentImage": _rule(
        "width:INT:16:16384 height:INT:16:16384 batch_size:INT:1:4096", "LATENT"
    ),
    "BasicScheduler": _rule(
        "model:MODEL scheduler:COMBO steps:INT:1:10000 denoise:FLOAT:0:1", "SIGMAS",
        scheduler=SCHEDULERS,
    ),
    "KSamplerSelect": _rule("sampler_name:COMBO", "SAMPLER", sampler_name=SAMPLERS),
    "RandomNoise": _rule("noise_seed:SEED", "NOISE"),
    "DisableNoise": _rule("", "NOISE"),
    "BasicGuider": _rule("model:MODEL conditioning:CONDITIONING", "GUIDER"),
    "CFGGuider": _rule(
        "model:MODEL positive:CONDITIONING negative:CONDITIONING cfg:FLOAT:0:100", "GUIDER"
    ),
    "SamplerCustomAdvanced": _rule(
        "noise:NOISE guider:GUIDER sampler:SAMPLER sigmas:SIGMAS latent_image:LATENT",
        "LATENT LATENT",
    ),
    "SamplerCustom": _rule(
        "model:MODEL add_noise:BOOLEAN noise_seed:SEED cfg:FLOAT:0:100 positive:CONDITIONING "
        "negative:CONDITIONING sampler:SAMPLER sigmas:SIGMAS latent_image:LATENT",
        "LATENT LATENT",
    ),
}  # fmt: skip
_PYTHON = {"INT": int, "FLOAT": float, "STRING": str, "COMBO": str, "BOOLEAN": bool}


def refusals(api: dict[str, Any]) -> list[str]:
    """What a server would answer to an API graph; names of files are not checked."""
    found = []
    for key, node in api.items():
        if node["class_type"] not in RULES:
            found.append(f"{key}: invalid_prompt")
            continue
        for each in RULES[node["class_type"]].inputs:
            code = _refusal(api, node, each)
            found += [f"{key}.{each.name}: {code}"] if code else []
    if not any(
        not RULES[n["class_type"]].outputs for n in api.values() if n["class_type"] in RULES
    ):
        found.append("prompt_no_outputs")
    return found


def _refusal(api: dict[str, Any], node: dict[str, Any], rule: InputRule) -> str:
    if rule.name not in node["inputs"]:
        return "" if rule.optional else "required_input_missing"
    value = node["inputs"][rule.name]
    if isinstance(value, list):
        origin, slot = value
        given = RULES[api[origin]["class_type"]].outputs[slot]
        return "" if given == rule.type else "return_type_mismatch"
    if rule.type not in _PYTHON:
        return "bad_linked_input"
    if type(value) is not _PYTHON[rule.type]:
        return "invalid_input_type"
    if rule.low is not None and value < rule.low:
        return "value_smaller_than_min"
    if rule.high is not None and value > rule.high:
        return "value_bigger_than_max"
    return "value_not_in_list" if rule.options and value not in rule.options else ""
