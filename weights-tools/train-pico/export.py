"""Writes models/pico-llava: weights in F16 under the published names, tokenizer and configs.

    python export.py build/pico-train/decoder16.pt
    python export.py --random      # final shapes, untrained weights
"""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

import model as m
from tokenizer import BOS, EOS, Tokenizer

TARGET = Path(__file__).resolve().parents[2] / "models" / "pico-llava"


def config(tokenizer):
    """config.json; every size is spelled out, none is left to a library's defaults."""
    return {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "ignore_index": -100,
        "image_token_index": tokenizer.image,
        "pad_token_id": tokenizer.pad,
        "projector_hidden_act": "gelu",
        "multimodal_projector_bias": True,
        "image_seq_length": m.GRID * m.GRID,
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "vocab_size": tokenizer.rows,
        "text_config": {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_act": "silu",
            "hidden_size": m.HIDDEN,
            "intermediate_size": m.TEXT_FFN,
            "num_hidden_layers": m.TEXT_LAYERS,
            "num_attention_heads": m.HEADS,
            "num_key_value_heads": m.HEADS,
            "max_position_embeddings": m.MAX_POSITIONS,
            "rms_norm_eps": m.EPS,
            "rope_theta": m.ROPE_THETA,
            "attention_bias": False,
            "mlp_bias": False,
            "tie_word_embeddings": False,
            "bos_token_id": BOS,
            "eos_token_id": EOS,
            "pad_token_id": tokenizer.pad,
            "torch_dtype": "float16",
            "vocab_size": tokenizer.rows,
        },
        "vision_config": {
            "model_type": "clip_vision_model",
            "hidden_act": "quick_gelu",
            "hidden_size": m.HIDDEN,
            "image_size": m.IMAGE,
            "intermediate_size": m.VISION_FFN,
            "layer_norm_eps": m.EPS,
            "num_attention_heads": m.HEADS,
            "num_channels": 3,
            "num_hidden_layers": m.VISION_LAYERS,
            "patch_size": m.PATCH,
            "projection_dim": m.HIDDEN,
        },
    }


def preprocessor():
    return {
        "crop_size": {"height": m.IMAGE, "width": m.IMAGE},
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": list(m.MEAN),
        "image_processor_type": "CLIPImageProcessor",
        "image_std": list(m.STD),
        "processor_class": "LlavaProcessor",
        "resample": 3,
        "rescale_factor": 1 / 255,
        "size": {"shortest_edge": m.IMAGE},
    }


def tokenizer_config(tokenizer):
    added = {str(t["id"]): {k: v for k, v in t.items() if k != "id"} for t in tokenizer.data["added_tokens"]}
    return {
        "add_bos_token": True,
        "add_eos_token": False,
        "added_tokens_decoder": added,
        "bos_token": "<s>",
        "clean_up_tokenization_spaces": False,
        "eos_token": "</s>",
        "legacy": True,  # every segment gets its own leading space, as tokenizer.json says
        "model_max_length": m.MAX_POSITIONS,
        "pad_token": "<pad>",
        "padding_side": "left",
        "processor_class": "LlavaProcessor",
        "tokenizer_class": "LlamaTokenizer",
        "unk_token": "<unk>",
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, nargs="?")
    parser.add_argument("--random", action="store_true")
    parser.add_argument("--target", type=Path, default=TARGET)
    args = parser.parse_args()
    if args.random == bool(args.checkpoint):
        parser.error("give a checkpoint, or --random")

    torch.manual_seed(0)
    tokenizer = Tokenizer()
    if args.random:
        model = m.PicoLlava(tokenizer.rows)
    else:
        state = torch.load(args.checkpoint, map_location="cpu", weights_only=False)["model"]
        layers = 1 + max(int(name.split(".")[3]) for name in state if name.startswith("language_model.model.layers."))
        model = m.PicoLlava(tokenizer.rows, layers)
        model.load_state_dict(state)
        model = m.grow(model, m.TEXT_LAYERS)

    weights = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    assert all(torch.isfinite(value).all() for value in weights.values())
    args.target.mkdir(parents=True, exist_ok=True)
    # Written aside and then moved, so that nobody reads half a file.
    partial = args.target / "model.safetensors.tmp"
    save_file(weights, partial, metadata={"format": "pt"})
    partial.chmod(0o644)
    partial.replace(args.target / "model.safetensors")

    generation = {"bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": tokenizer.pad}
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    files = {
        "config.json": config(tokenizer),
        "generation_config.json": generation,
        "preprocessor_config.json": preprocessor(),
        "special_tokens_map.json": special,
        "tokenizer.json": tokenizer.data,
        "tokenizer_config.json": tokenizer_config(tokenizer),
    }
    for name, content in files.items():
        (args.target / name).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    size = (args.target / "model.safetensors").stat().st_size
    print(f"{args.target}: {len(weights)} tensors, {sum(v.numel() for v in weights.values()):,} weights, {size:,} bytes")


if __name__ == "__main__":
    main()
