"""Hugging Face transformers' LLaVA at the shapes of the CUDA bench: bf16, SDPA, KV cache, random weights made on the device.

    python3 hf_llava.py [--shape 7b|tiny] [--device cuda|cpu] [--seconds 170] [--short]

Needs torch and transformers, and downloads nothing. Prints tab-separated lines, which bench/cuda/rival.cc reads:

    result  first_token|decode  BATCH  TEXT  MODE  MILLISECONDS
    failed  first_token|decode  BATCH  TEXT  MODE  WHY
    note    TEXT

A first token is timed from float32 pixels in pinned host memory to the chosen tokens on the host, a decode step from token to
token on the host: where the engine's times begin and end. Whatever fails is printed as such and the rest goes on.
"""

import argparse
import contextlib
import gc
import os
import signal
import statistics
import sys
import time

SHAPES = {
    "7b": {
        "text": {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
                 "num_key_value_heads": 32, "vocab_size": 32064, "max_position_embeddings": 4096},
        "vision": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
                   "image_size": 336, "patch_size": 14, "projection_dim": 768},
        "texts": (60, 135), "decode_text": 100, "cached": 716,
    },
    "tiny": {
        "text": {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2,
                 "num_key_value_heads": 2, "vocab_size": 96, "max_position_embeddings": 256},
        "vision": {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
                   "image_size": 16, "patch_size": 4, "projection_dim": 32},
        "texts": (12,), "decode_text": 12, "cached": 20,
    },
}
PREFIX_MOST = 35  # text tokens before the image
STEPS_WARM, STEPS_TIMED = 8, 32  # of decode: with 716 cached, the timed steps attend to 740.5 tokens on average
ROWS_AT_ONCE = 16384  # of a cache that is being filled


def say(*fields):
    print("\t".join(str(field).replace("\t", " ").replace("\n", " ") for field in fields), flush=True)


@contextlib.contextmanager
def at_most(seconds):
    """Raises TimeoutError in the block after that many seconds."""
    def ring(_signal, _frame):
        raise TimeoutError(f"took longer than {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Rival:
    def __init__(self, torch, shape, device):
        from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

        self.torch, self.device, self.shape = torch, device, SHAPES[shape]
        vision = CLIPVisionConfig(**self.shape["vision"])
        text = LlamaConfig(**self.shape["text"], rms_norm_eps=1e-5, tie_word_embeddings=False)
        self.patches = (vision.image_size // vision.patch_size) ** 2
        config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=text.vocab_size - 1,
                             vision_feature_layer=-2, vision_feature_select_strategy="default", image_seq_length=self.patches, attn_implementation="sdpa")
        self.text_config, self.vocabulary, self.image_id = text, text.vocab_size, text.vocab_size - 1
        torch.manual_seed(0)
        torch.set_default_dtype(torch.bfloat16)
        try:
            with torch.device(device):
                self.model = LlavaForConditionalGeneration(config).eval()
        finally:
            torch.set_default_dtype(torch.float32)
        import inspect

        self.arguments = inspect.signature(self.model.forward).parameters
        # The last row's logits only, by whichever name this version has for it.
        self.keep = {name: 1 for name in ("logits_to_keep", "num_logits_to_keep") if name in self.arguments}

    def at(self, first, count):
        """The argument that says where new tokens stand in the cache, for versions that do not ask the cache."""
        if "cache_position" not in self.arguments:
            return {}
        return {"cache_position": self.torch.arange(first, first + count, device=self.device)}

    def synchronize(self):
        if self.device == "cuda":
            self.torch.cuda.synchronize()

    def ids(self, batch, length):
        """Random text tokens: (batch, length)."""
        return self.torch.randint(1, self.vocabulary - 1, (batch, length), device=self.device)

    def prompt(self, batch, text):
        prefix = min(PREFIX_MOST, text // 3)
        image = self.torch.full((batch, self.patches), self.image_id, device=self.device)
        return self.torch.cat([self.ids(batch, prefix), image, self.ids(batch, text - prefix)], dim=1)

    def first_token(self, batch, text, repeats, forward):
        torch, side = self.torch, self.shape["vision"]["image_size"]
        ids = self.prompt(batch, text)
        mask = torch.ones_like(ids)
        pixels = torch.randn(batch, 3, side, side)
        if self.device == "cuda":
            pixels = pixels.pin_memory()
        times = []
        for _ in range(3 + repeats):
            self.synchronize()
            start = time.perf_counter()
            on_device = pixels.to(self.device, non_blocking=True).to(torch.bfloat16)
            out = forward(input_ids=ids, pixel_values=on_device, attention_mask=mask, use_cache=True, **self.keep)
            out.logits[:, -1].argmax(-1).tolist()
            times.append(1e3 * (time.perf_counter() - start))
            del out
        return statistics.median(times[3:])

    def decode(self, batch, cache, forward):
        """Milliseconds of a step; `cache` is empty."""
        cached = self.shape["cached"]
        at_once = max(1, ROWS_AT_ONCE // batch)
        for first in range(0, cached, at_once):
            count = min(at_once, cached - first)
            self.model(input_ids=self.ids(batch, count), past_key_values=cache, use_cache=True, **self.at(first, count), **self.keep)
        token = self.ids(batch, 1)
        times = []
        for step in range(STEPS_WARM + STEPS_TIMED):
            self.synchronize()
            start = time.perf_counter()
            where = self.at(cached + step, 1)
            out = forward(input_ids=token, past_key_values=cache, use_cache=True, **where, **self.keep)
            token = out.logits[:, -1:].argmax(-1)
            token.tolist()
            times.append(1e3 * (time.perf_counter() - start))
        return statistics.median(times[STEPS_WARM:])

    def growing_cache(self, _batch):
        from transformers import DynamicCache

        return DynamicCache()

    def fixed_cache(self, batch):
        """Of one length from the start, as CUDA graphs want it; its constructor has changed between versions."""
        from transformers import StaticCache

        most = self.shape["cached"] + STEPS_WARM + STEPS_TIMED
        try:
            return StaticCache(config=self.text_config, max_cache_len=most)
        except TypeError:
            return StaticCache(config=self.text_config, max_batch_size=batch, max_cache_len=most, device=self.device,
                               dtype=self.torch.bfloat16)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", choices=sorted(SHAPES), default="7b")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--seconds", type=float, default=170, help="begin nothing after so long, and end what compiles")
    parser.add_argument("--short", action="store_true")
    options = parser.parse_args()
    started = time.monotonic()

    def left():
        return options.seconds - (time.monotonic() - started)

    try:
        # A cache that is concatenated anew each step asks for a little more each time: without this its allocator would be timed.
        os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
        import torch
        import transformers

        rival = Rival(torch, options.shape, options.device)
    except Exception as error:  # whatever it is, it must be told and not end the bench
        say("failed", "first_token", 1, 0, "SDPA", f"{type(error).__name__}: {error}")
        return 0
    say("note", f"transformers {transformers.__version__}, torch {torch.__version__}, SDPA, {options.device}; "
                "its tower runs all 24 layers, of which LLaVA reads 23.")
    texts = rival.shape["texts"][:1] if options.short else rival.shape["texts"]
    decode_text = rival.shape["decode_text"]

    def attempt(what, batch, text, mode, work):
        if left() <= 0:
            say("failed", what, batch, text, mode, "no time was left")
            return
        try:
            with at_most(left()), torch.inference_mode():
                say("result", what, batch, text, mode, f"{work():.3f}")
        except Exception as error:
            say("failed", what, batch, text, mode, f"{type(error).__name__}: {str(error)[:160]}")
        gc.collect()
        if options.device == "cuda":
            torch.cuda.empty_cache()

    for batch, repeats in ((1, 15), (8, 5)) if options.short else ((1, 15), (8, 5), (32, 3)):
        for text in texts:
            attempt("first_token", batch, text, "SDPA", lambda: rival.first_token(batch, text, repeats, rival.model))
    for batch in (1, 32) if options.short else (1, 8, 32, 128):
        attempt("decode", batch, decode_text, "SDPA", lambda: rival.decode(batch, rival.growing_cache(batch), rival.model))

    # Compiled: the decode step as one graph, then the prompt; compiling is not timed.
    decode_compiled = torch.compile(rival.model, mode="reduce-overhead")
    attempt("decode", 1, decode_text, "torch.compile", lambda: rival.decode(1, rival.fixed_cache(1), decode_compiled))
    prompt_compiled = torch.compile(rival.model, dynamic=False)
    for text in texts:
        attempt("first_token", 1, text, "torch.compile", lambda: rival.first_token(1, text, 15, prompt_compiled))
    return 0


if __name__ == "__main__":
    sys.exit(main())
