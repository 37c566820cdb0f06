"""Widgets of ComfyUI's own nodes that FlowDesign cannot run: their names, in the order of a file's values.

Facts only, for reading files: no defaults, no ranges. A name that ends in * is a seed, whose value is followed by one
that says what happens to it after each run; one that ends in + has a button to upload, which adds a value of its own.
One that begins with $$ only shows something. CHOICES has classes in which a value chooses which widgets follow: the
names up to that of the choice, for each value those that follow (after that name and a dot), and those at the end.
"""

from __future__ import annotations

from collections.abc import Mapping

_GENERATING = (
    "prompt max_length sampling_mode",
    {
        "off": "",
        "on": "temperature top_k top_p min_p repetition_penalty seed presence_penalty",
    },
    "thinking use_default_template mtp",
)
WIDGETS: Mapping[str, tuple[str, ...]] = {
    name: tuple(words.split())
    for name, words in {
        "APG": "eta norm_threshold momentum",
        "AddNoise": "",
        "AlignYourStepsScheduler": "model_type steps denoise",
        "AudioAdjustVolume": "volume",
        "AudioConcat": "direction",
        "AudioEncoderEncode": "",
        "AudioEncoderLoader": "audio_encoder_name",
        "AudioEqualizer3Band": (
            "low_gain_dB low_freq mid_gain_dB mid_freq mid_q high_gain_dB high_freq"
        ),
        "AudioMerge": "merge_method",
        "BasicGuider": "",
        "BasicScheduler": "scheduler steps denoise",
        "BetaSamplingScheduler": "steps alpha beta",
        "CFGGuider": "cfg",
        "CFGNorm": "strength pre_cfg",
        "CFGOverride": "cfg start_percent end_percent",
        "CFGZeroStar": "",
        "CLIPAttentionMultiply": "q k v out",
        "CLIPLoader": "clip_name type device",
        "CLIPMergeAdd": "",
        "CLIPMergeSimple": "ratio",
        "CLIPMergeSubtract": "multiplier",
        "CLIPSave": "filename_prefix",
        "CLIPSetLastLayer": "stop_at_clip_layer",
        "CLIPTextEncode": "text",
        "CLIPTextEncodeControlnet": "text",
        "CLIPTextEncodeFlux": "clip_l t5xxl guidance",
        "CLIPTextEncodeHiDream": "clip_l clip_g t5xxl llama",
        "CLIPTextEncodeHunyuanDiT": "bert mt5xl",
        "CLIPTextEncodeKandinsky5": "clip_l qwen25_7b",
        "CLIPTextEncodeLumina2": "system_prompt user_prompt",
        "CLIPTextEncodePixArtAlpha": "width height text",
        "CLIPTextEncodeSD3": "clip_l clip_g t5xxl empty_padding",
        "CLIPTextEncodeSDXL": "width height crop_w crop_h target_width target_height text_g text_l",
        "CLIPTextEncodeSDXLRefiner": "ascore width height text",
        "CLIPVisionEncode": "crop",
        "CLIPVisionLoader": "clip_name",
        "Canny": "low_threshold high_threshold",
        "CaseConverter": "string mode",
        "CheckpointLoader": "config_name ckpt_name",
        "CheckpointLoaderSimple": "ckpt_name",
        "CheckpointSave": "filename_prefix",
        "ChromaRadianceOptions": "preserve_wrapper start_sigma end_sigma nerf_tile_size",
        "CombineHooks2": "",
        "CombineHooks4": "",
        "CombineHooks8": "",
        "ComfyMathExpression": "expression",
        "ComfyNotNode": "",
        "ComfySwitchNode": "switch",
        "ConditioningAverage": "conditioning_to_strength",
        "ConditioningCombine": "",
        "ConditioningConcat": "",
        "ConditioningLoader": "conditioning_name",
        "ConditioningMultiply": "multiplier",
        "ConditioningSetArea": "width height x y strength",
        "ConditioningSetAreaPercentage": "width height x y strength",
        "ConditioningSetAreaPercentageVideo": "width height temporal x y z strength",
        "ConditioningSetAreaStrength": "strength",
        "ConditioningSetDefaultCombine": "",
        "ConditioningSetMask": "strength set_cond_area",
        "ConditioningSetProperties": "strength set_cond_area",
        "ConditioningSetPropertiesAndCombine": "strength set_cond_area",
        "ConditioningSetTimestepRange": "start end",
        "ConditioningStableAudio": "seconds_start seconds_total",
        "ConditioningTimestepsRange": "start_percent end_percent",
        "ConditioningZeroOut": "",
        "ContextWindowsManual": (
            "context_length context_overlap context_schedule context_stride closed_loop "
            "fuse_method dim freenoise cond_retain_index_list split_conds_to_windows "
            "latent_retain_index_list causal_window_fix"
        ),
        "ControlNetApply": "strength",
        "ControlNetApplyAdvanced": "strength start_percent end_percent",
        "ControlNetApplySD3": "strength start_percent end_percent",
        "ControlNetInpaintingAliMamaApply": "strength start_percent end_percent",
        "ControlNetLoader": "control_net_name",
        "CosmosImageToVideoLatent": "width height length batch_size",
        "CosmosPredict2ImageToVideoLatent": "width height length batch_size",
        "CreateHookKeyframe": "strength_mult start_percent",
        "CreateHookKeyframesFromFloats": "start_percent end_percent print_keyframes",
        "CreateHookKeyframesInterpolated": (
            "strength_start strength_end interpolation start_percent end_percent keyframes_count "
            "print_keyframes"
        ),
        "CreateHookLora": "lora_name strength_model strength_clip",
        "CreateHookLoraModelOnly": "lora_name strength_model",
        "CreateHookModelAsLora": "ckpt_name strength_model strength_clip",
        "CreateHookModelAsLoraModelOnly": "ckpt_name strength_model",
        "CreateVideo": "fps bit_depth color_space codec",
        "CropMask": "x y width height",
        "DiffControlNetLoader": "control_net_name",
        "DifferentialDiffusion": "strength",
        "DiffusersLoader": "model_path",
        "DisableNoise": "",
        "DualCFGGuider": "cfg_conds cfg_cond2_negative style",
        "DualCLIPLoader": "clip_name1 clip_name2 type device",
        "DualModelGuider": "cfg",
        "EasyCache": "reuse_threshold start_percent end_percent verbose",
        "EmptyAceStep1.5LatentAudio": "seconds batch_size",
        "EmptyAceStepLatentAudio": "seconds batch_size",
        "EmptyAudio": "duration sample_rate channels",
        "EmptyChromaRadianceLatentImage": "width height batch_size",
        "EmptyCosmosLatentVideo": "width height length batch_size",
        "EmptyFlux2LatentImage": "width height batch_size",
        "EmptyHiDreamO1LatentImage": "width height batch_size",
        "EmptyHunyuanImageLatent": "width height batch_size",
        "EmptyHunyuanLatentVideo": "width height length batch_size",
        "EmptyHunyuanVideo15Latent": "width height length batch_size",
        "EmptyImage": "width height batch_size color",
        "EmptyLTXVLatentVideo": "width height length batch_size",
        "EmptyLatentAudio": "seconds batch_size",
        "EmptyLatentHunyuan3Dv2": "resolution batch_size",
        "EmptyLatentImage": "width height batch_size",
        "EmptyMochiLatentVideo": "width height length batch_size",
        "EmptyQwenImageLayeredLatentImage": "width height layers batch_size",
        "EmptySD3LatentImage": "width height batch_size",
        "Epsilon Scaling": "scaling_factor",
        "ExponentialScheduler": "steps sigma_max sigma_min",
        "ExtendIntermediateSigmas": "steps start_at_sigma end_at_sigma spacing",
        "FeatherMask": "left top right bottom",
        "FlipSigmas": "",
        "Flux2Scheduler": "steps width height",
        "FluxDisableGuidance": "",
        "FluxGuidance": "guidance",
        "FluxKontextImageScale": "",
        "FluxKontextMultiReferenceLatentMethod": "reference_latents_method",
        "FreSca": "scale_low scale_high freq_cutoff",
        "FreeU": "b1 b2 s1 s2",
        "FreeU_V2": "b1 b2 s1 s2",
        "GITSScheduler": "coeff steps denoise",
        "GLIGENLoader": "gligen_name",
        "GLIGENTextBoxApply": "text width height x y",
        "GeminiImage2Node": "prompt model seed* aspect_ratio resolution response_modalities system_prompt",
        "GeminiImageNode": "prompt model seed* aspect_ratio response_modalities system_prompt",
        "GetICLoRAParameters": "",
        "GetImageSize": "$$size",
        "GetVideoComponents": "",
        "GrowMask": "expand tapered_corners",
        "Hunyuan3Dv2Conditioning": "",
        "Hunyuan3Dv2ConditioningMultiView": "",
        "HunyuanImageToVideo": "width height length batch_size guidance_type",
        "HunyuanRefinerLatent": "noise_augmentation",
        "HunyuanVideo15ImageToVideo": "width height length batch_size",
        "HunyuanVideo15LatentUpscaleWithModel": "upscale_method width height crop",
        "HunyuanVideo15SuperResolution": "noise_augmentation",
        "HyperTile": "tile_size swap_size max_depth scale_depth",
        "HypernetworkLoader": "hypernetwork_name strength",
        "ImageAddNoise": "seed* strength",
        "ImageBatch": "",
        "ImageBlend": "blend_factor blend_mode",
        "ImageBlur": "blur_radius sigma",
        "ImageColorToMask": "color",
        "ImageCompositeMasked": "x y resize_source",
        "ImageCrop": "width height x y",
        "ImageFlip": "flip_method",
        "ImageFromBatch": "batch_index length",
        "ImageInvert": "",
        "ImageOnlyCheckpointLoader": "ckpt_name",
        "ImageOnlyCheckpointSave": "filename_prefix",
        "ImagePadForOutpaint": "left top right bottom feathering",
        "ImageQuantize": "colors dither",
        "ImageRGBToYUV": "",
        "ImageRotate": "rotation",
        "ImageScale": "upscale_method width height crop",
        "ImageScaleBy": "upscale_method scale_by",
        "ImageScaleToMaxDimension": "upscale_method largest_size",
        "ImageScaleToTotalPixels": "upscale_method megapixels resolution_steps",
        "ImageSharpen": "sharpen_radius sigma alpha",
        "ImageStitch": "direction match_image_size spacing_width spacing_color",
        "ImageToMask": "channel",
        "ImageUpscaleWithModel": "",
        "ImageYUVToRGB": "",
        "InpaintModelConditioning": "noise_mask",
        "InstructPixToPixConditioning": "",
        "InvertMask": "",
        "JoinAudioChannels": "",
        "JoinImageWithAlpha": "",
        "JsonExtractString": "json_string key",
        "KSampler": "seed* steps cfg sampler_name scheduler denoise",
        "KSamplerAdvanced": (
            "add_noise noise_seed* steps cfg sampler_name scheduler start_at_step end_at_step "
            "return_with_leftover_noise"
        ),
        "KSamplerSelect": "sampler_name",
        "Kandinsky5ImageToVideo": "width height length batch_size",
        "KarrasScheduler": "steps sigma_max sigma_min rho",
        "LTXAVTextEncoderLoader": "text_encoder ckpt_name device",
        "LTXVAddGuide": "frame_idx strength",
        "LTXVAudioVAEDecode": "",
        "LTXVAudioVAEEncode": "",
        "LTXVAudioVAELoader": "ckpt_name",
        "LTXVConditioning": "frame_rate",
        "LTXVContextWindows": (
            "context_length context_overlap context_schedule context_stride closed_loop "
            "fuse_method freenoise retain_first_frame split_conds_to_windows"
        ),
        "LTXVCropGuides": "",
        "LTXVEmptyLatentAudio": "frames_number frame_rate batch_size",
        "LTXVImgToVideo": "width height length batch_size strength",
        "LTXVImgToVideoInplace": "strength bypass",
        "LTXVLatentUpsampler": "",
        "LTXVPreprocess": "img_compression",
        "LTXVScheduler": "steps max_shift base_shift stretch terminal",
        "LaplaceScheduler": "steps sigma_max sigma_min mu beta",
        "LatentAdd": "",
        "LatentApplyOperation": "",
        "LatentApplyOperationCFG": "start_percent end_percent",
        "LatentBatch": "",
        "LatentBatchSeedBehavior": "seed_behavior",
        "LatentBlend": "blend_factor",
        "LatentComposite": "x y feather",
        "LatentCompositeMasked": "x y resize_source",
        "LatentConcat": "dim",
        "LatentCrop": "width height x y",
        "LatentCut": "dim index amount",
        "LatentCutToBatch": "dim slice_size",
        "LatentFlip": "flip_method",
        "LatentFromBatch": "batch_index length",
        "LatentInterpolate": "ratio",
        "LatentMultiply": "multiplier",
        "LatentOperationBlend": "strength",
        "LatentOperationSharpen": "sharpen_radius sigma alpha",
        "LatentOperationTonemapReinhard": "multiplier",
        "LatentRotate": "rotation",
        "LatentSubtract": "",
        "LatentUpscale": "upscale_method width height crop",
        "LatentUpscaleBy": "upscale_method scale_by",
        "LatentUpscaleModelLoader": "model_name",
        "LazyCache": "reuse_threshold start_percent end_percent verbose",
        "LoadAudio": "audio+",
        "LoadImage": "image+",
        "LoadImageMask": "image+ channel",
        "LoadImageOutput": "image+",
        "LoadLatent": "latent",
        "LoadVideo": "file+",
        "LoraLoader": "lora_name strength_model strength_clip",
        "LoraLoaderModelOnly": "lora_name strength_model",
        "LoraSave": "filename_prefix lora_type rank bias_diff",
        "LotusConditioning": "",
        "Mahiro": "",
        "ManualSigmas": "sigmas",
        "MaskComposite": "x y operation",
        "MaskPreview": "",
        "MaskToImage": "",
        "ModelComputeDtype": "dtype",
        "ModelMergeAdd": "",
        "ModelMergeAuraflow": (
            "init_x_linear. positional_encoding cond_seq_linear. register_tokens t_embedder. "
            "double_layers.0. double_layers.1. double_layers.2. double_layers.3. single_layers.0. "
            "single_layers.1. single_layers.2. single_layers.3. single_layers.4. single_layers.5. "
            "single_layers.6. single_layers.7. single_layers.8. single_layers.9. "
            "single_layers.10. single_layers.11. single_layers.12. single_layers.13. "
            "single_layers.14. single_layers.15. single_layers.16. single_layers.17. "
            "single_layers.18. single_layers.19. single_layers.20. single_layers.21. "
            "single_layers.22. single_layers.23. single_layers.24. single_layers.25. "
            "single_layers.26. single_layers.27. single_layers.28. single_layers.29. "
            "single_layers.30. single_layers.31. modF. final_linear."
        ),
        "ModelMergeBlocks": "input middle out",
        "ModelMergeCosmos14B": (
            "pos_embedder. extra_pos_embedder. x_embedder. t_embedder. affline_norm. "
            "blocks.block0. blocks.block1. blocks.block2. blocks.block3. blocks.block4. "
            "blocks.block5. blocks.block6. blocks.block7. blocks.block8. blocks.block9. "
            "blocks.block10. blocks.block11. blocks.block12. blocks.block13. blocks.block14. "
            "blocks.block15. blocks.block16. blocks.block17. blocks.block18. blocks.block19. "
            "blocks.block20. blocks.block21. blocks.block22. blocks.block23. blocks.block24. "
            "blocks.block25. blocks.block26. blocks.block27. blocks.block28. blocks.block29. "
            "blocks.block30. blocks.block31. blocks.block32. blocks.block33. blocks.block34. "
            "blocks.block35. final_layer."
        ),
        "ModelMergeCosmos7B": (
            "pos_embedder. extra_pos_embedder. x_embedder. t_embedder. affline_norm. "
            "blocks.block0. blocks.block1. blocks.block2. blocks.block3. blocks.block4. "
            "blocks.block5. blocks.block6. blocks.block7. blocks.block8. blocks.block9. "
            "blocks.block10. blocks.block11. blocks.block12. blocks.block13. blocks.block14. "
            "blocks.block15. blocks.block16. blocks.block17. blocks.block18. blocks.block19. "
            "blocks.block20. blocks.block21. blocks.block22. blocks.block23. blocks.block24. "
            "blocks.block25. blocks.block26. blocks.block27. final_layer."
        ),
        "ModelMergeCosmosPredict2_14B": (
            "pos_embedder. x_embedder. t_embedder. t_embedding_norm. blocks.0. blocks.1. "
            "blocks.2. blocks.3. blocks.4. blocks.5. blocks.6. blocks.7. blocks.8. blocks.9. "
            "blocks.10. blocks.11. blocks.12. blocks.13. blocks.14. blocks.15. blocks.16. "
            "blocks.17. blocks.18. blocks.19. blocks.20. blocks.21. blocks.22. blocks.23. "
            "blocks.24. blocks.25. blocks.26. blocks.27. blocks.28. blocks.29. blocks.30. "
            "blocks.31. blocks.32. blocks.33. blocks.34. blocks.35. final_layer."
        ),
        "ModelMergeCosmosPredict2_2B": (
            "pos_embedder. x_embedder. t_embedder. t_embedding_norm. blocks.0. blocks.1. "
            "blocks.2. blocks.3. blocks.4. blocks.5. blocks.6. blocks.7. blocks.8. blocks.9. "
            "blocks.10. blocks.11. blocks.12. blocks.13. blocks.14. blocks.15. blocks.16. "
            "blocks.17. blocks.18. blocks.19. blocks.20. blocks.21. blocks.22. blocks.23. "
            "blocks.24. blocks.25. blocks.26. blocks.27. final_layer."
        ),
        "ModelMergeFlux1": (
            "img_in. time_in. guidance_in vector_in. txt_in. double_blocks.0. double_blocks.1. "
            "double_blocks.2. double_blocks.3. double_blocks.4. double_blocks.5. double_blocks.6. "
            "double_blocks.7. double_blocks.8. double_blocks.9. double_blocks.10. "
            "double_blocks.11. double_blocks.12. double_blocks.13. double_blocks.14. "
            "double_blocks.15. double_blocks.16. double_blocks.17. double_blocks.18. "
            "single_blocks.0. single_blocks.1. single_blocks.2. single_blocks.3. single_blocks.4. "
            "single_blocks.5. single_blocks.6. single_blocks.7. single_blocks.8. single_blocks.9. "
            "single_blocks.10. single_blocks.11. single_blocks.12. single_blocks.13. "
            "single_blocks.14. single_blocks.15. single_blocks.16. single_blocks.17. "
            "single_blocks.18. single_blocks.19. single_blocks.20. single_blocks.21. "
            "single_blocks.22. single_blocks.23. single_blocks.24. single_blocks.25. "
            "single_blocks.26. single_blocks.27. single_blocks.28. single_blocks.29. "
            "single_blocks.30. single_blocks.31. single_blocks.32. single_blocks.33. "
            "single_blocks.34. single_blocks.35. single_blocks.36. single_blocks.37. final_layer."
        ),
        "ModelMergeLTXV": (
            "patchify_proj. adaln_single. caption_projection. transformer_blocks.0. "
            "transformer_blocks.1. transformer_blocks.2. transformer_blocks.3. "
            "transformer_blocks.4. transformer_blocks.5. transformer_blocks.6. "
            "transformer_blocks.7. transformer_blocks.8. transformer_blocks.9. "
            "transformer_blocks.10. transformer_blocks.11. transformer_blocks.12. "
            "transformer_blocks.13. transformer_blocks.14. transformer_blocks.15. "
            "transformer_blocks.16. transformer_blocks.17. transformer_blocks.18. "
            "transformer_blocks.19. transformer_blocks.20. transformer_blocks.21. "
            "transformer_blocks.22. transformer_blocks.23. transformer_blocks.24. "
            "transformer_blocks.25. transformer_blocks.26. transformer_blocks.27. "
            "scale_shift_table proj_out."
        ),
        "ModelMergeMochiPreview": (
            "pos_frequencies. t_embedder. t5_y_embedder. t5_yproj. blocks.0. blocks.1. blocks.2. "
            "blocks.3. blocks.4. blocks.5. blocks.6. blocks.7. blocks.8. blocks.9. blocks.10. "
            "blocks.11. blocks.12. blocks.13. blocks.14. blocks.15. blocks.16. blocks.17. "
            "blocks.18. blocks.19. blocks.20. blocks.21. blocks.22. blocks.23. blocks.24. "
            "blocks.25. blocks.26. blocks.27. blocks.28. blocks.29. blocks.30. blocks.31. "
            "blocks.32. blocks.33. blocks.34. blocks.35. blocks.36. blocks.37. blocks.38. "
            "blocks.39. blocks.40. blocks.41. blocks.42. blocks.43. blocks.44. blocks.45. "
            "blocks.46. blocks.47. final_layer."
        ),
        "ModelMergeQwenImage": (
            "pos_embeds. img_in. txt_norm. txt_in. time_text_embed. transformer_blocks.0. "
            "transformer_blocks.1. transformer_blocks.2. transformer_blocks.3. "
            "transformer_blocks.4. transformer_blocks.5. transformer_blocks.6. "
            "transformer_blocks.7. transformer_blocks.8. transformer_blocks.9. "
            "transformer_blocks.10. transformer_blocks.11. transformer_blocks.12. "
            "transformer_blocks.13. transformer_blocks.14. transformer_blocks.15. "
            "transformer_blocks.16. transformer_blocks.17. transformer_blocks.18. "
            "transformer_blocks.19. transformer_blocks.20. transformer_blocks.21. "
            "transformer_blocks.22. transformer_blocks.23. transformer_blocks.24. "
            "transformer_blocks.25. transformer_blocks.26. transformer_blocks.27. "
            "transformer_blocks.28. transformer_blocks.29. transformer_blocks.30. "
            "transformer_blocks.31. transformer_blocks.32. transformer_blocks.33. "
            "transformer_blocks.34. transformer_blocks.35. transformer_blocks.36. "
            "transformer_blocks.37. transformer_blocks.38. transformer_blocks.39. "
            "transformer_blocks.40. transformer_blocks.41. transformer_blocks.42. "
            "transformer_blocks.43. transformer_blocks.44. transformer_blocks.45. "
            "transformer_blocks.46. transformer_blocks.47. transformer_blocks.48. "
            "transformer_blocks.49. transformer_blocks.50. transformer_blocks.51. "
            "transformer_blocks.52. transformer_blocks.53. transformer_blocks.54. "
            "transformer_blocks.55. transformer_blocks.56. transformer_blocks.57. "
            "transformer_blocks.58. transformer_blocks.59. proj_out."
        ),
        "ModelMergeSD1": (
            "time_embed. label_emb. input_blocks.0. input_blocks.1. input_blocks.2. "
            "input_blocks.3. input_blocks.4. input_blocks.5. input_blocks.6. input_blocks.7. "
            "input_blocks.8. input_blocks.9. input_blocks.10. input_blocks.11. middle_block.0. "
            "middle_block.1. middle_block.2. output_blocks.0. output_blocks.1. output_blocks.2. "
            "output_blocks.3. output_blocks.4. output_blocks.5. output_blocks.6. output_blocks.7. "
            "output_blocks.8. output_blocks.9. output_blocks.10. output_blocks.11. out."
        ),
        "ModelMergeSD2": (
            "time_embed. label_emb. input_blocks.0. input_blocks.1. input_blocks.2. "
            "input_blocks.3. input_blocks.4. input_blocks.5. input_blocks.6. input_blocks.7. "
            "input_blocks.8. input_blocks.9. input_blocks.10. input_blocks.11. middle_block.0. "
            "middle_block.1. middle_block.2. output_blocks.0. output_blocks.1. output_blocks.2. "
            "output_blocks.3. output_blocks.4. output_blocks.5. output_blocks.6. output_blocks.7. "
            "output_blocks.8. output_blocks.9. output_blocks.10. output_blocks.11. out."
        ),
        "ModelMergeSD35_Large": (
            "pos_embed. x_embedder. context_embedder. y_embedder. t_embedder. joint_blocks.0. "
            "joint_blocks.1. joint_blocks.2. joint_blocks.3. joint_blocks.4. joint_blocks.5. "
            "joint_blocks.6. joint_blocks.7. joint_blocks.8. joint_blocks.9. joint_blocks.10. "
            "joint_blocks.11. joint_blocks.12. joint_blocks.13. joint_blocks.14. joint_blocks.15. "
            "joint_blocks.16. joint_blocks.17. joint_blocks.18. joint_blocks.19. joint_blocks.20. "
            "joint_blocks.21. joint_blocks.22. joint_blocks.23. joint_blocks.24. joint_blocks.25. "
            "joint_blocks.26. joint_blocks.27. joint_blocks.28. joint_blocks.29. joint_blocks.30. "
            "joint_blocks.31. joint_blocks.32. joint_blocks.33. joint_blocks.34. joint_blocks.35. "
            "joint_blocks.36. joint_blocks.37. final_layer."
        ),
        "ModelMergeSD3_2B": (
            "pos_embed. x_embedder. context_embedder. y_embedder. t_embedder. joint_blocks.0. "
            "joint_blocks.1. joint_blocks.2. joint_blocks.3. joint_blocks.4. joint_blocks.5. "
            "joint_blocks.6. joint_blocks.7. joint_blocks.8. joint_blocks.9. joint_blocks.10. "
            "joint_blocks.11. joint_blocks.12. joint_blocks.13. joint_blocks.14. joint_blocks.15. "
            "joint_blocks.16. joint_blocks.17. joint_blocks.18. joint_blocks.19. joint_blocks.20. "
            "joint_blocks.21. joint_blocks.22. joint_blocks.23. final_layer."
        ),
        "ModelMergeSDXL": (
            "time_embed. label_emb. input_blocks.0 input_blocks.1 input_blocks.2 input_blocks.3 "
            "input_blocks.4 input_blocks.5 input_blocks.6 input_blocks.7 input_blocks.8 "
            "middle_block.0 middle_block.1 middle_block.2 output_blocks.0 output_blocks.1 "
            "output_blocks.2 output_blocks.3 output_blocks.4 output_blocks.5 output_blocks.6 "
            "output_blocks.7 output_blocks.8 out."
        ),
        "ModelMergeSimple": "ratio",
        "ModelMergeSubtract": "multiplier",
        "ModelMergeWAN2_1": (
            "patch_embedding. time_embedding. time_projection. text_embedding. img_emb. blocks.0. "
            "blocks.1. blocks.2. blocks.3. blocks.4. blocks.5. blocks.6. blocks.7. blocks.8. "
            "blocks.9. blocks.10. blocks.11. blocks.12. blocks.13. blocks.14. blocks.15. "
            "blocks.16. blocks.17. blocks.18. blocks.19. blocks.20. blocks.21. blocks.22. "
            "blocks.23. blocks.24. blocks.25. blocks.26. blocks.27. blocks.28. blocks.29. "
            "blocks.30. blocks.31. blocks.32. blocks.33. blocks.34. blocks.35. blocks.36. "
            "blocks.37. blocks.38. blocks.39. head."
        ),
        "ModelPatchLoader": "name",
        "ModelSamplingAuraFlow": "shift sampling",
        "ModelSamplingContinuousEDM": "sampling sigma_max sigma_min",
        "ModelSamplingContinuousV": "sampling sigma_max sigma_min",
        "ModelSamplingDiscrete": "sampling zsnr",
        "ModelSamplingFlux": "max_shift base_shift width height",
        "ModelSamplingLTXV": "max_shift base_shift",
        "ModelSamplingSD3": "shift",
        "ModelSamplingStableCascade": "shift",
        "ModelSave": "filename_prefix",
        "Morphology": "operation kernel_size",
        "NormalizeVideoLatentStart": "start_frame_count reference_frame_count",
        "OptimalStepsScheduler": "model_type steps denoise",
        "Painter": "mask width height bg_color",
        "PairConditioningCombine": "",
        "PairConditioningSetDefaultCombine": "",
        "PairConditioningSetProperties": "strength set_cond_area",
        "PairConditioningSetPropertiesAndCombine": "strength set_cond_area",
        "PatchModelAddDownscale": (
            "block_number downscale_factor start_percent end_percent downscale_after_skip "
            "downscale_method upscale_method"
        ),
        "PerpNeg": "neg_scale",
        "PerpNegGuider": "cfg neg_scale",
        "PerturbedAttentionGuidance": "scale",
        "PhotoMakerEncode": "text",
        "PhotoMakerLoader": "photomaker_model_name",
        "PolyexponentialScheduler": "steps sigma_max sigma_min rho",
        "PorterDuffImageComposite": "mode",
        "Preview3D": "model_file image",
        "PreviewAny": "$$markdown $$text $$mode",
        "PreviewAudio": "",
        "PreviewImage": "",
        "PrimitiveBoolean": "value",
        "PrimitiveFloat": "value",
        "PrimitiveInt": "value*",
        "PrimitiveString": "value",
        "PrimitiveStringMultiline": "value",
        "QuadrupleCLIPLoader": "clip_name1 clip_name2 clip_name3 clip_name4",
        "QwenImageDiffsynthControlnet": "strength",
        "RandomNoise": "noise_seed*",
        "RebatchImages": "batch_size",
        "RebatchLatents": "batch_size",
        "ReferenceLatent": "",
        "ReferenceTimbreAudio": "",
        "RegexExtract": "string regex_pattern mode case_insensitive multiline dotall group_index",
        "RegexMatch": "string regex_pattern case_insensitive multiline dotall",
        "RegexReplace": "string regex_pattern replace case_insensitive multiline dotall count",
        "RenormCFG": "cfg_trunc renorm_cfg",
        "RepeatImageBatch": "amount",
        "RepeatLatentBatch": "amount",
        "RescaleCFG": "multiplier",
        "ResizeAndPadImage": "target_width target_height padding_color interpolation",
        "ResolutionSelector": "aspect_ratio megapixels multiple",
        "SAM3_VideoTrack": "detection_threshold max_objects detect_interval",
        "SDPoseKeypointExtractor": "batch_size",
        "SDTurboScheduler": "steps denoise",
        "SD_4XUpscale_Conditioning": "scale_ratio noise_augmentation",
        "SV3D_Conditioning": "width height video_frames elevation",
        "SVD_img2vid_Conditioning": (
            "width height video_frames motion_bucket_id fps augmentation_level"
        ),
        "SamplerCustom": "add_noise noise_seed* cfg",
        "SamplerCustomAdvanced": "",
        "SamplerDPMAdaptative": (
            "order rtol atol h_init pcoeff icoeff dcoeff accept_safety eta s_noise"
        ),
        "SamplerDPMPP_2M_SDE": "solver_type eta s_noise noise_device",
        "SamplerDPMPP_2S_Ancestral": "eta s_noise",
        "SamplerDPMPP_3M_SDE": "eta s_noise noise_device",
        "SamplerDPMPP_SDE": "eta s_noise r noise_device",
        "SamplerER_SDE": "solver_type max_stage eta s_noise",
        "SamplerEulerAncestral": "eta s_noise",
        "SamplerEulerAncestralCFGPP": "eta s_noise",
        "SamplerEulerCFGpp": "version",
        "SamplerLCM": "s_noise s_noise_end noise_clip_std",
        "SamplerLCMUpscale": "scale_ratio scale_steps upscale_method",
        "SamplerLMS": "order",
        "SamplerSASolver": (
            "eta sde_start_percent sde_end_percent s_noise predictor_order corrector_order "
            "use_pece simple_order_2"
        ),
        "SamplerSEEDS2": "solver_type eta s_noise r",
        "SamplingPercentToSigma": "sampling_percent return_actual_sigma",
        "SaveAnimatedPNG": "filename_prefix fps compress_level",
        "SaveAnimatedWEBP": "filename_prefix fps lossless quality method",
        "SaveAudio": "filename_prefix",
        "SaveAudioMP3": "filename_prefix quality",
        "SaveAudioOpus": "filename_prefix quality",
        "SaveConditioning": "filename_prefix",
        "SaveGLB": "filename_prefix image",
        "SaveImage": "filename_prefix",
        "SaveLatent": "filename_prefix",
        "SaveSVGNode": "filename_prefix",
        "SaveText": "filename_prefix format",
        "SaveVideo": "filename_prefix format codec",
        "SaveWEBM": "filename_prefix codec fps crf",
        "ScaleROPE": "scale_x shift_x scale_y shift_y scale_t shift_t",
        "SelfAttentionGuidance": "scale blur_sigma",
        "SetClipHooks": "apply_to_conds schedule_clip",
        "SetFirstSigma": "sigma",
        "SetHookKeyframes": "",
        "SetLatentNoiseMask": "",
        "SetUnionControlNetType": "type",
        "SkipLayerGuidanceDiT": (
            "double_layers single_layers scale start_percent end_percent rescaling_scale"
        ),
        "SkipLayerGuidanceDiTSimple": "double_layers single_layers start_percent end_percent",
        "SkipLayerGuidanceSD3": "layers scale start_percent end_percent",
        "SolidMask": "value width height",
        "SplitAudioChannels": "",
        "SplitImageWithAlpha": "",
        "SplitSigmas": "step",
        "SplitSigmasDenoise": "denoise",
        "StableCascade_EmptyLatentImage": "width height compression batch_size",
        "StableCascade_StageB_Conditioning": "",
        "StableCascade_StageC_VAEEncode": "compression",
        "StableCascade_SuperResolutionControlnet": "",
        "StableZero123_Conditioning": "width height batch_size elevation azimuth",
        "StableZero123_Conditioning_Batched": (
            "width height batch_size elevation azimuth elevation_batch_increment "
            "azimuth_batch_increment"
        ),
        "StringCompare": "string_a string_b mode case_sensitive",
        "StringConcatenate": "string_a string_b delimiter",
        "StringContains": "string substring case_sensitive",
        "StringLength": "string",
        "StringReplace": "string find replace",
        "StringSubstring": "string start end",
        "StringTrim": "string mode",
        "StyleModelApply": "strength strength_type",
        "StyleModelLoader": "style_model_name",
        "T5TokenizerOptions": "min_padding min_length",
        "TCFG": "",
        "TemporalScoreRescaling": "tsr_k tsr_sigma",
        "TextEncodeAceStepAudio": "tags lyrics lyrics_strength",
        "TextEncodeAceStepAudio1.5": (
            "tags lyrics seed* bpm duration timesignature language keyscale generate_audio_codes "
            "cfg_scale temperature top_p top_k min_p"
        ),
        "TextEncodeHunyuanVideo_ImageToVideo": "prompt image_interleave",
        "TextEncodeQwenImageEdit": "prompt",
        "TextEncodeQwenImageEditPlus": "prompt",
        "TextEncodeZImageOmni": "prompt auto_resize_images",
        "ThresholdMask": "value",
        "TomePatchModel": "ratio",
        "TorchCompileModel": "backend",
        "TrimAudioDuration": "start_index duration",
        "TrimVideoLatent": "trim_amount",
        "TripleCLIPLoader": "clip_name1 clip_name2 clip_name3",
        "UNETLoader": "unet_name weight_dtype",
        "UNetCrossAttentionMultiply": "q k v out",
        "UNetSelfAttentionMultiply": "q k v out",
        "UNetTemporalAttentionMultiply": (
            "self_structural self_temporal cross_structural cross_temporal"
        ),
        "USOStyleReference": "",
        "UpscaleModelLoader": "model_name",
        "VAEDecode": "",
        "VAEDecodeAudio": "",
        "VAEDecodeAudioTiled": "tile_size overlap",
        "VAEDecodeHunyuan3D": "num_chunks octree_resolution",
        "VAEDecodeTiled": "tile_size overlap temporal_size temporal_overlap",
        "VAEEncode": "",
        "VAEEncodeAudio": "",
        "VAEEncodeForInpaint": "grow_mask_by",
        "VAEEncodeTiled": "tile_size overlap temporal_size temporal_overlap",
        "VAELoader": "vae_name",
        "VAESave": "filename_prefix",
        "VPScheduler": "steps beta_d beta_min eps_s",
        "Video Slice": "start_time duration strict_duration",
        "VideoLinearCFGGuidance": "min_cfg",
        "VideoTriangleCFGGuidance": "min_cfg",
        "VoxelToMesh": "algorithm threshold",
        "VoxelToMeshBasic": "threshold",
        "Wan22FunControlToVideo": "width height length batch_size",
        "Wan22ImageToVideoLatent": "width height length batch_size",
        "WanAnimateToVideo": (
            "width height length batch_size continue_motion_max_frames video_frame_offset"
        ),
        "WanCameraEmbedding": "camera_pose width height length speed fx fy cx cy",
        "WanCameraImageToVideo": "width height length batch_size",
        "WanContextWindowsManual": (
            "context_length context_overlap context_schedule context_stride closed_loop "
            "fuse_method freenoise"
        ),
        "WanFirstLastFrameToVideo": "width height length batch_size",
        "WanFunControlToVideo": "width height length batch_size",
        "WanFunInpaintToVideo": "width height length batch_size",
        "WanHuMoImageToVideo": "width height length batch_size",
        "WanImageToVideo": "width height length batch_size",
        "WanPhantomSubjectToVideo": "width height length batch_size",
        "WanSoundImageToVideo": "width height length batch_size",
        "WanSoundImageToVideoExtend": "length",
        "WanTrackToVideo": "tracks width height length batch_size temperature topk",
        "WanVaceToVideo": "width height length batch_size strength",
        "unCLIPCheckpointLoader": "ckpt_name",
        "unCLIPConditioning": "strength noise_augmentation",
    }.items()
}
CHOICES: Mapping[str, tuple[str, Mapping[str, str], str]] = {
    "ResizeImageMaskNode": (
        "resize_type",
        {
            "match size": "crop",
            "scale by multiplier": "multiplier",
            "scale dimensions": "width height crop",
            "scale height": "height",
            "scale longer dimension": "longer_size",
            "scale shorter dimension": "shorter_size",
            "scale to multiple": "multiple",
            "scale total pixels": "megapixels",
            "scale width": "width",
        },
        "scale_method",
    ),
    "SaveAudioAdvanced": (
        "filename_prefix format",
        {"flac": "", "mp3": "quality", "opus": "quality"},
        "",
    ),
    "SaveImageAdvanced": (
        "filename_prefix format",
        {"exr": "bit_depth input_color_space", "png": "bit_depth input_color_space"},
        "",
    ),
    "SaveVideo": (
        "filename_prefix format",
        {"auto": "codec", "mkv": "codec", "mp4": "codec", "webm": "codec"},
        "codec",
    ),
    "TextGenerate": _GENERATING,
    "TextGenerateLTX2Prompt": _GENERATING,
}
