"""CLIP as a dense encoder: every patch in the joint space of images and texts, and texts from names or soft prompts.

Sources: Radford et al., Learning Transferable Visual Models from Natural Language Supervision (CLIP), ICML 2021; dense
patch embeddings as in Zhou et al., Extract Free Dense Labels from CLIP (MaskCLIP), ECCV 2022, and Zhou et al., ZegCLIP,
CVPR 2023; attention of values with values in the last block as in Li et al., CLIP Surgery, 2023; soft prompts as in
Zhou et al., Learning to Prompt for Vision-Language Models (CoOp), IJCV 2022. The towers themselves are open_clip's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from methods.nn import tiny_clip, weights
from methods.nn.precision import full_precision
from protocols.errors import InputError, unknown

ADAPTATIONS = ("vv", "v_only", "vpt", "none")
SINGLE = "a photo of a {}."
SCENE_TEMPLATES = (  # with the 80 of CLIP's ImageNet evaluation these are the 85 of MaskCLIP
    "there is a {} in the scene.",
    "there is the {} in the scene.",
    "this is a {} in the scene.",
    "this is the {} in the scene.",
    "this is one {} in the scene.",
)
VISUAL_PROMPTS = 10  # tokens in each layer (ZegCLIP)
PROMPT_DROPOUT = 0.1
TEXT_BLOCK = 32  # tokens; texts are encoded up to a multiple of it, so that shapes are few


class TextTower(nn.Module):
    """The text transformer, frozen. Copies share it: it never changes."""

    def __init__(self, model: nn.Module, size: "ClipSize") -> None:
        super().__init__()
        source = getattr(model, "text", model)  # open_clip.CustomTextCLIP keeps it apart
        try:
            self.token_embedding, self.transformer = source.token_embedding, source.transformer
            self.ln_final, pooling = source.ln_final, getattr(source, "text_pool_type", None) or source.pool_type
            self.register_buffer("positional_embedding", source.positional_embedding.detach())
            self.register_buffer("text_projection", source.text_projection.detach())
            self.register_buffer("attn_mask", source.attn_mask)
        except AttributeError as fault:
            raise InputError(f"the text tower of {size.title} is no plain text transformer: {fault}") from fault
        if pooling != "argmax":
            raise InputError(f"the text tower of {size.title} pools by {pooling!r}, not at the end of the text")
        if self.attn_mask is None:
            raise InputError(f"the text tower of {size.title} attends to tokens ahead: what follows a text would count")
        self.tokenise, self.all_templates = size.tokenise(), size.templates()
        self._known: dict[tuple[str, ...], Tensor] = {}  # names -> features, so that nothing is encoded twice
        self._last_prompts: tuple[tuple | None, Tensor | None] = (None, None)
        self.eval().requires_grad_(False)

    def __deepcopy__(self, memo: dict) -> "TextTower":
        return self

    @property
    def width(self) -> int:
        """Width of the token embeddings."""
        return self.token_embedding.embedding_dim

    @torch.no_grad()
    def templates(self, names: Sequence[str], single: bool = False) -> Tensor:
        """Hand-crafted features of class names: the mean over the templates of the unit text features, made unit again.

        single: use "a photo of a {}." alone. Returns (len(names), D) float32.
        """
        templates = (SINGLE,) if single else self.all_templates
        features = [self._template_mean(name, templates) for name in names]
        return torch.stack(features)

    def _template_mean(self, name: str, templates: Sequence[str]) -> Tensor:
        key = (name, *templates)
        device = self.text_projection.device
        if key not in self._known or self._known[key].device != device:
            rows = self._cut(self._rows([template.format(name) for template in templates])).to(device)
            features = self._encode(self.token_embedding(rows), rows.argmax(dim=1))
            self._known[key] = F.normalize(features.mean(dim=0), dim=0)
        return self._known[key]

    @torch.no_grad()
    def words(self, text: str) -> Tensor:
        """Token embeddings of a text, without its start and end: (tokens, width)."""
        rows = self._rows([text])
        return self.token_embedding(rows[:, 1 : int(rows.argmax())].to(self.text_projection.device))[0]

    def prompts(self, context: Tensor, names: Sequence[str]) -> Tensor:
        """Features of soft prompts [context, name, "."] (CoOp); the gradient reaches the context.

        context (M, width). Returns (len(names), D) float32, unit norm. Raises InputError if they are too long.
        """
        rows = self._prompt_rows(tuple(names), len(context), context.device)
        embedded, ends = self.token_embedding(rows), rows.argmax(dim=1) + len(context)
        middle = context.to(embedded.dtype).expand(len(rows), -1, -1)
        embedded = torch.cat([embedded[:, :1], middle, embedded[:, 1 : embedded.shape[1] - len(context)]], dim=1)
        return self._encode(embedded, ends)

    def _prompt_rows(self, names: tuple[str, ...], context: int, device: torch.device) -> Tensor:
        """Token rows of "name." for each name, with room for `context` more tokens; kept, for every iteration asks for
        the same ones."""
        asked = (names, context, device)
        if self._last_prompts[0] != asked:
            self._last_prompts = asked, self._cut(self._rows([f"{name}." for name in names]), context).to(device)
        return self._last_prompts[1]

    def _cut(self, rows: Tensor, more: int = 0) -> Tensor:
        """Token rows (n, L) without the padding that no text reads: attention looks back alone, so nothing after the
        end of the longest text, and of `more` tokens beside it, reaches a feature."""
        needed = int(rows.argmax(dim=1).max()) + 1 + more
        return rows[:, : -(-needed // TEXT_BLOCK) * TEXT_BLOCK]

    def longest_context(self, names: Sequence[str]) -> int:
        """The number of context vectors that fit beside every one of the names."""
        rows = self._rows([f"{name}." for name in names])
        return rows.shape[1] - 1 - int(rows.argmax(dim=1).max())

    def _encode(self, embedded: Tensor, ends: Tensor) -> Tensor:
        """embedded (n, L, width), ends (n,) positions of the last token -> unit features (n, D) float32."""
        with full_precision(embedded):  # few texts, and their relations are what counts
            length = embedded.shape[1]
            x = embedded.float() + self.positional_embedding[:length]
            x = self.transformer(x, attn_mask=self.attn_mask[:length, :length])
            x = self.ln_final(x)[torch.arange(len(x), device=x.device), ends]
            return F.normalize(x @ self.text_projection, dim=-1)

    def _rows(self, texts: list[str]) -> Tensor:
        """Token rows (n, L) on the CPU, also where tensors are made for their shapes alone."""
        with torch.device("cpu"):
            return self.tokenise(texts)


class ImageTower(nn.Module):
    """The vision transformer, read out at every patch."""

    def __init__(self, visual: nn.Module) -> None:
        """Raises InputError for another kind of image tower."""
        super().__init__()
        if not isinstance(visual, VisionTransformer) or visual.attn_pool is not None or visual.final_ln_after_pool:
            raise InputError("this CLIP's image tower is no plain vision transformer: choose a ViT of open_clip")
        self.visual = visual
        self.patch = visual.patch_size[0]
        self.adapt = "none"
        self.visual_prompts: nn.Parameter | None = None

    @property
    def dim(self) -> int:
        """Width D of the joint space."""
        return self.visual.proj.shape[1]

    def adapt_to_dense(self, adaptation: str) -> None:
        """Chooses how the last block, whose patches CLIP never read, becomes dense:

        * "vv": its attention compares values with values instead of queries with keys;
        * "v_only": it gives the projected values, without attention, residual or MLP (MaskCLIP);
        * "vpt": unchanged, and learned prompt tokens enter every later block, for a frozen tower (ZegCLIP);
        * "none": unchanged.

        Raises InputError for another word.
        """
        if adaptation not in ADAPTATIONS:
            raise unknown("encoder adaptation", adaptation, ADAPTATIONS)
        self.adapt = adaptation
        if adaptation == "vpt":
            width = self.visual.class_embedding.shape[0]
            later = len(self.visual.transformer.resblocks) - 1
            self.visual_prompts = nn.Parameter(0.02 * torch.randn(later, VISUAL_PROMPTS, width))

    def forward(self, images: Tensor) -> Tensor:
        """images (B, 3, H, W), sides multiples of the patch -> unit patch features (B, N, D) float32, row by row."""
        x = self._last_block(self._before_last_block(images))
        prompts = 0 if self.visual_prompts is None else VISUAL_PROMPTS
        x = self.visual.ln_post(x[:, 1 + prompts :]) @ self.visual.proj
        return F.normalize(x.float(), dim=-1)

    def pooled(self, images: Tensor) -> Tensor:
        """The unit image features (B, D) by which CLIP compares whole images with texts, unadapted."""
        x = self._embed(images)
        for block in self.visual.transformer.resblocks:
            x = _block(block, x)
        x = self.visual.ln_post(x)
        x = x[:, 1:].mean(dim=1) if self.visual.pool_type == "avg" else x[:, 0]
        return F.normalize((x @ self.visual.proj).float(), dim=-1)

    def _embed(self, images: Tensor) -> Tensor:
        """Patch and class tokens with positions, (B, 1 + N, width)."""
        visual = self.visual
        maps = visual.conv1(images)  # (B, width, h, w)
        x = maps.flatten(2).mT.to(visual.class_embedding.dtype)  # under autocast the residual stream stays float32
        x = torch.cat([visual.class_embedding.expand(len(x), 1, -1), x], dim=1)
        return visual.ln_pre(x + self._positions(maps.shape[2:]))

    def _positions(self, grid: torch.Size) -> Tensor:
        """Position embeddings (1 + h w, width), resampled if the grid is not that of training."""
        positions, own = self.visual.positional_embedding, self.visual.grid_size
        if tuple(grid) == tuple(own):
            return positions
        maps = positions[1:].T.unflatten(1, own)[None]  # (1, width, h, w)
        maps = F.interpolate(maps, size=tuple(grid), mode="bicubic", antialias=True, align_corners=False)
        return torch.cat([positions[:1], maps[0].flatten(1).T])

    def _before_last_block(self, images: Tensor) -> Tensor:
        x = self._embed(images)
        for layer, block in enumerate(self.visual.transformer.resblocks[:-1]):
            x = _block(block, self._prompted(x, layer - 1))
        return self._prompted(x, len(self.visual.transformer.resblocks) - 2)

    def _prompted(self, x: Tensor, layer: int) -> Tensor:
        """The tokens with the prompts of a layer in place of those of the layer before; layer -1 has none."""
        if self.visual_prompts is None or layer < 0:
            return x
        prompts = self.visual_prompts[layer].to(x.dtype).expand(len(x), -1, -1)
        prompts = F.dropout(prompts, PROMPT_DROPOUT, self.training)
        patches = x[:, 1 + (VISUAL_PROMPTS if layer > 0 else 0) :]
        return torch.cat([x[:, :1], prompts, patches], dim=1)

    def _last_block(self, x: Tensor) -> Tensor:
        block = self.visual.transformer.resblocks[-1]
        if self.adapt == "v_only":
            return block.attn.out_proj(_queries_keys_values(block, x)[2])
        return _block(block, x, values_alone=self.adapt == "vv")


class DenseClip(ImageTower):
    """Both towers. The text tower is frozen and outside parameters and state, for no state needs it: what is learned
    from texts is kept as prototypes."""

    def __init__(self, size: "ClipSize", image_size: int, initial: Path | None) -> None:
        """image_size: side of the training crop in pixels, a multiple of the patch; initial: a file of both towers'
        weights in open_clip's layout (position embeddings are resampled), None for random ones. Raises InputError."""
        model = size.make(image_size)
        super().__init__(model.visual)
        if image_size <= 0 or image_size % self.patch:
            raise InputError(f"image size {image_size} is not a multiple of CLIP's patch of {self.patch} pixels")
        if initial is not None:
            weights.load_open_clip(model, initial)
        self.size, self.image_size = size, image_size
        self.mean, self.std = size.mean, size.std
        object.__setattr__(self, "text", TextTower(model, size))

    @classmethod
    def of(cls, name: str, image_size: int, initial: Path | None) -> "DenseClip":
        """The CLIP of that network name, see `clip_size`."""
        return cls(clip_size(name), image_size, initial)

    def forget(self) -> None:
        """Puts random weights into the image tower: a control for what its training with language is worth."""
        self.visual = self.size.make(self.image_size).visual

    def _apply(self, fn: Callable, recurse: bool = True):  # moves the text tower along with .to(), .cuda(), ...
        super()._apply(fn, recurse)
        self.text._apply(fn, recurse)
        return self


def _block(block: nn.Module, x: Tensor, values_alone: bool = False) -> Tensor:
    """A residual attention block of open_clip; with `values_alone` its attention compares values with values."""
    heads = [part.unflatten(2, (block.attn.num_heads, -1)).transpose(1, 2) for part in _queries_keys_values(block, x)]
    queries, keys, values = heads  # (B, heads, N, D / heads)
    mixed = _attend(values, values, values) if values_alone else _attend(queries, keys, values)
    x = x + block.ls_1(block.attn.out_proj(mixed.transpose(1, 2).flatten(2)))
    return x + block.ls_2(block.mlp(block.ln_2(x)))


def _queries_keys_values(block: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The three projections of the normalised tokens, each (B, N, D)."""
    return F.linear(block.ln_1(x), block.attn.in_proj_weight, block.attn.in_proj_bias).chunk(3, dim=2)


def _attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Scaled dot-product attention; on a CPU as plain products, for the fused kernel's bfloat16 backward is several
    times slower there."""
    if queries.device.type != "cpu":
        return F.scaled_dot_product_attention(queries, keys, values)
    scores = (queries * queries.shape[-1] ** -0.5) @ keys.mT
    return scores.softmax(dim=-1) @ values


@dataclass(frozen=True)
class ClipSize:
    """One CLIP: how it is made, and how it reads text."""

    title: str
    make: Callable[[int], nn.Module]  # image size -> open_clip model without weights
    tokenise: Callable[[], Callable[[Sequence[str]], Tensor]]
    templates: Callable[[], tuple[str, ...]]  # hand-crafted, with {} for the name
    published: Callable[[], Path]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    unreadable: Callable[[Sequence[str]], str | None] = lambda texts: None  # why it cannot read some text

    def build(self, image_size: int, initial: Path | None) -> DenseClip:
        return DenseClip(self, image_size, initial)


def clip_size(name: str) -> ClipSize:
    """The CLIP that a network name stands for: `clip` (OpenAI's ViT-B/16), `clip-tiny`, or any of open_clip as
    `clip:MODEL/TAG`. Raises InputError for one that open_clip does not list."""
    if name == "clip-tiny":
        return ClipSize(
            title="clip-tiny",
            make=tiny_clip.make_model,
            tokenise=lambda: tiny_clip.tokenise,
            templates=lambda: tiny_clip.TEMPLATES,
            published=weights.packaged(tiny_clip.FILE),
            mean=tiny_clip.MEAN,
            std=tiny_clip.STD,
            unreadable=tiny_clip.unreadable,
        )
    kind, _, chosen = name.partition(":")
    if kind != "clip" or name == "clip:":
        raise unknown("network", name, ("clip", "clip-tiny", "clip:MODEL/TAG"))
    model, _, tag = (chosen or weights.OPENAI_CLIP).rpartition("/")
    listed = open_clip.list_pretrained(as_str=False)
    if (model, tag) not in listed:
        raise unknown("CLIP", f"{model}/{tag}", ["/".join(pair) for pair in listed])
    preprocessing = open_clip.get_pretrained_cfg(model, tag)
    return ClipSize(
        title=f"{model}/{tag}",
        make=partial(_make, model, bool(preprocessing.get("quick_gelu"))),
        tokenise=partial(open_clip.get_tokenizer, model),
        templates=_imagenet_and_scene_templates,
        published=weights.open_clip_file(model, tag),
        mean=tuple(preprocessing.get("mean") or open_clip.OPENAI_DATASET_MEAN),
        std=tuple(preprocessing.get("std") or open_clip.OPENAI_DATASET_STD),
    )


def _make(name: str, quick_gelu: bool, image_size: int) -> nn.Module:
    """The model without weights, drawn from PyTorch's global generator; on the default device, so also on `meta`.

    quick_gelu: the activation that the weights were trained with, whatever the model's name says.
    """
    config = open_clip.get_model_config(name)
    config["vision_cfg"]["image_size"], config["quick_gelu"] = image_size, quick_gelu
    towers = open_clip.CustomTextCLIP if config.pop("custom_text", False) else open_clip.CLIP
    try:
        return towers(**config)
    except (TypeError, RuntimeError) as fault:  # a model of another make, or one that needs another library
        raise InputError(f"open_clip's {name} is no CLIP of two plain towers: {fault}") from fault


@cache
def _imagenet_and_scene_templates() -> tuple[str, ...]:
    return (*(template("{}") for template in open_clip.OPENAI_IMAGENET_TEMPLATES), *SCENE_TEMPLATES)
