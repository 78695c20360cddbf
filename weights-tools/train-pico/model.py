"""pico-llava in PyTorch: LLaVA-1.5 with its published tensor names, in miniature.

Shapes in the comments: B images, P prefix rows (text before the image + image),
N questions per image, L tokens per question, H hidden size.
"""

import torch
import torch.nn.functional as F
from torch import nn

IMAGE, PATCH = 168, 14
GRID = IMAGE // PATCH  # 12 patches a side, so a cell of the scenes is exactly 4x4 patches
HIDDEN, HEADS = 128, 4
HEAD_DIM = HIDDEN // HEADS
VISION_LAYERS, VISION_FFN = 5, 512
TEXT_LAYERS, TEXT_FFN = 16, 384
EPS = 1e-5
ROPE_THETA = 10000.0
MAX_POSITIONS = 2048
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


def preprocess(images):
    """uint8 [B,168,168,3] -> float32 [B,3,168,168], CLIP's normalisation."""
    x = images.float().permute(0, 3, 1, 2) / 255
    mean = torch.tensor(MEAN, device=x.device).view(1, 3, 1, 1)
    std = torch.tensor(STD, device=x.device).view(1, 3, 1, 1)
    return ((x - mean) / std).contiguous()


def _heads(x):
    """[B,T,H] -> [B,heads,T,head_dim]"""
    return x.unflatten(-1, (HEADS, HEAD_DIM)).transpose(1, 2)


# The vision tower


class VisionEmbeddings(nn.Module):
    def __init__(self):
        super().__init__()
        self.class_embedding = nn.Parameter(torch.randn(HIDDEN) * 0.02)
        self.patch_embedding = nn.Conv2d(3, HIDDEN, PATCH, stride=PATCH, bias=False)
        self.position_embedding = nn.Embedding(GRID * GRID + 1, HIDDEN)
        nn.init.normal_(self.position_embedding.weight, std=0.1)

    def forward(self, pixels):
        """[B,3,168,168] -> [B,145,H], the class token first"""
        # The convolution as a matrix product, which is far faster on a CPU.
        b = len(pixels)
        patches = pixels.view(b, 3, GRID, PATCH, GRID, PATCH).permute(0, 2, 4, 1, 3, 5).reshape(b, GRID * GRID, -1)
        patches = patches @ self.patch_embedding.weight.flatten(1).T
        return torch.cat([self.class_embedding.expand(b, 1, HIDDEN), patches], 1) + self.position_embedding.weight


class VisionAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(HIDDEN, HIDDEN) for _ in range(4))

    def forward(self, x):
        out = F.scaled_dot_product_attention(_heads(self.q_proj(x)), _heads(self.k_proj(x)), _heads(self.v_proj(x)))
        return self.out_proj(out.transpose(1, 2).flatten(2))


class VisionMlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(HIDDEN, VISION_FFN)
        self.fc2 = nn.Linear(VISION_FFN, HIDDEN)

    def forward(self, x):
        x = self.fc1(x)
        return self.fc2(x * torch.sigmoid(1.702 * x))


class VisionLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(HIDDEN, eps=EPS)
        self.self_attn = VisionAttention()
        self.layer_norm2 = nn.LayerNorm(HIDDEN, eps=EPS)
        self.mlp = VisionMlp()

    def forward(self, x):
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class VisionModel(nn.Module):
    """CLIP's tower. The last layer and `post_layernorm` are never run: LLaVA reads the layer before."""

    def __init__(self):
        super().__init__()
        self.embeddings = VisionEmbeddings()
        self.pre_layrnorm = nn.LayerNorm(HIDDEN, eps=EPS)  # misspelt in CLIP's published weights
        self.encoder = nn.Module()
        self.encoder.layers = nn.ModuleList(VisionLayer() for _ in range(VISION_LAYERS))
        self.post_layernorm = nn.LayerNorm(HIDDEN, eps=EPS)

    def forward(self, pixels):
        """[B,3,168,168] -> [B,144,H]: the second to last layer without the class token"""
        x = self.pre_layrnorm(self.embeddings(pixels))
        for layer in self.encoder.layers[:-1]:
            x = layer(x)
        return x[:, 1:]


class Projector(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear_1 = nn.Linear(HIDDEN, HIDDEN)
        self.linear_2 = nn.Linear(HIDDEN, HIDDEN)

    def forward(self, x):
        return self.linear_2(F.gelu(self.linear_1(x)))


# The decoder


def rope_tables(positions):
    """cos and sin, [T,head_dim] each, for positions [T]"""
    frequency = ROPE_THETA ** (-torch.arange(0, HEAD_DIM, 2, device=positions.device) / HEAD_DIM)
    angle = positions[:, None] * frequency
    angle = torch.cat([angle, angle], -1)
    return angle.cos(), angle.sin()


def rotate(x, cos, sin):
    """RoPE with the halves of a head as pairs; x is [B,heads,T,head_dim]"""
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat([-second, first], -1) * sin


class RMSNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(HIDDEN))

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPS) * self.weight


class TextAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(HIDDEN, HIDDEN, bias=False) for _ in range(4))

    def keys_values(self, x, rope):
        return rotate(_heads(self.k_proj(x)), *rope), _heads(self.v_proj(x))

    def prefix(self, x, rope):
        """Causal attention of the prefix to itself; x is [B,P,H]"""
        k, v = self.keys_values(x, rope)
        q = rotate(_heads(self.q_proj(x)), *rope)
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(out.transpose(1, 2).flatten(2)), (k, v)

    def branches(self, x, rope, cache, n):
        """Each of n branches attends to the prefix and to itself; x is [B,n*L,H], cache [B,heads,P,head_dim]"""
        pk, pv = cache
        k, v = self.keys_values(x, rope)
        q = rotate(_heads(self.q_proj(x)), *rope) * HEAD_DIM**-0.5
        length = x.shape[1] // n
        split = (n, length)
        seen = q @ pk.transpose(-1, -2)  # [B,heads,n*L,P]
        own = q.unflatten(2, split) @ k.unflatten(2, split).transpose(-1, -2)  # [B,heads,n,L,L]
        future = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
        own = own.masked_fill(future, float("-inf")).flatten(2, 3)
        weights = torch.cat([seen, own], -1).softmax(-1)
        p = pk.shape[2]
        out = weights[..., :p] @ pv
        out = out + (weights[..., p:].unflatten(2, split) @ v.unflatten(2, split)).flatten(2, 3)
        return self.o_proj(out.transpose(1, 2).flatten(2))


class TextMlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate_proj = nn.Linear(HIDDEN, TEXT_FFN, bias=False)
        self.up_proj = nn.Linear(HIDDEN, TEXT_FFN, bias=False)
        self.down_proj = nn.Linear(TEXT_FFN, HIDDEN, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class TextLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.input_layernorm = RMSNorm()
        self.self_attn = TextAttention()
        self.post_attention_layernorm = RMSNorm()
        self.mlp = TextMlp()

    def prefix(self, x, rope):
        a, cache = self.self_attn.prefix(self.input_layernorm(x), rope)
        x = x + a
        return x + self.mlp(self.post_attention_layernorm(x)), cache

    def branches(self, x, rope, cache, n):
        x = x + self.self_attn.branches(self.input_layernorm(x), rope, cache, n)
        return x + self.mlp(self.post_attention_layernorm(x))


class TextModel(nn.Module):
    def __init__(self, rows, layers):
        super().__init__()
        self.embed_tokens = nn.Embedding(rows, HIDDEN)
        nn.init.normal_(self.embed_tokens.weight, std=0.5)
        self.layers = nn.ModuleList(TextLayer() for _ in range(layers))
        self.norm = RMSNorm()

    def prefix(self, x):
        """[B,P,H] -> the keys and values of every layer, all that later tokens need of the prefix"""
        rope = rope_tables(torch.arange(x.shape[1], device=x.device))
        caches = []
        for layer in self.layers[:-1]:
            x, cache = layer.prefix(x, rope)
            caches.append(cache)
        last = self.layers[-1]
        caches.append(last.self_attn.keys_values(last.input_layernorm(x), rope))
        return caches

    def branches(self, ids, caches, inputs=None):
        """ids [B,N,L] -> [B,N,L,H]; each branch continues the prefix as if it were alone.

        `inputs`, a list, is filled with the input [B,N*L,H] of every layer.
        """
        b, n, length = ids.shape
        start = caches[0][0].shape[2]
        positions = (start + torch.arange(length, device=ids.device)).repeat(n)
        rope = rope_tables(positions)
        x = self.embed_tokens(ids.flatten(1))
        for layer, cache in zip(self.layers, caches):
            if inputs is not None:
                inputs.append(x)
            x = layer.branches(x, rope, cache, n)
        return self.norm(x).view(b, n, length, HIDDEN)


class LanguageModel(nn.Module):
    def __init__(self, rows, layers):
        super().__init__()
        self.model = TextModel(rows, layers)
        self.lm_head = nn.Linear(HIDDEN, rows, bias=False)


class PicoLlava(nn.Module):
    """`state_dict()` holds exactly the tensors of the published layout."""

    def __init__(self, rows, layers=TEXT_LAYERS):
        super().__init__()
        self.vision_tower = nn.Module()
        self.vision_tower.vision_model = VisionModel()
        self.multi_modal_projector = Projector()
        self.language_model = LanguageModel(rows, layers)

    def prefix(self, images, text):
        """images uint8 [B,168,168,3] and the ids before the image [T] -> keys and values of P = T + 144 rows"""
        with torch.no_grad():  # the tower is frozen whenever the decoder is trained
            features = self.vision_tower.vision_model(preprocess(images))
        rows = self.multi_modal_projector(features)
        words = self.language_model.model.embed_tokens(text).expand(len(rows), -1, -1)
        return self.language_model.model.prefix(torch.cat([words, rows], 1))

    def logits(self, ids, caches):
        """[B,N,L] -> [B,N,L,rows]"""
        return self.language_model.lm_head(self.language_model.model.branches(ids, caches))

    @torch.no_grad()
    def answer(self, ids, caches, end, limit=40):
        """Greedy answers to one batch of prompts of equal length, ids [B,N,L] -> [B,N,<=limit]"""
        prompt = ids.shape[-1]
        done = torch.zeros(ids.shape[:2], dtype=torch.bool, device=ids.device)
        while ids.shape[-1] < prompt + limit and not done.all():
            best = self.logits(ids, caches)[:, :, -1].argmax(-1)
            best = torch.where(done, end, best)
            done |= best == end
            ids = torch.cat([ids, best[..., None]], -1)
        return ids[..., prompt:]


def grow(model, layers):
    """A deeper model with the same function: the appended layers add nothing until they are trained."""
    rows, hidden = model.language_model.lm_head.weight.shape
    deep = PicoLlava(rows, layers)
    have = len(model.language_model.model.layers)
    missing, unexpected = deep.load_state_dict(model.state_dict(), strict=False)
    assert not unexpected
    with torch.no_grad():
        for layer in deep.language_model.model.layers[have:]:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
    return deep
