"""Causal language models in a worker: loaded from a folder, answering many prompts in step."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from dspex.errors import ContextWindowExceededError, DefinitionError
from dspex.neural.writing import Answer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dspex.records import Completion, Prompt

_ROOM = 1024
"""How many tokens an answer may have unless its prompt says."""
_TURNS = ("\nuser:", "\nsystem:")


class Causal:
    """A causal language model and its tokenizer."""

    def __init__(self, tokenizer: Any, net: Any) -> None:
        self.tokenizer = tokenizer
        self.net = net
        self.limit: int | None = getattr(net.config, "max_position_embeddings", None)
        self._takes_positions = "position_ids" in inspect.signature(net.forward).parameters
        ends = net.generation_config.eos_token_id
        ends = [ends] if ends is None or isinstance(ends, int) else list(ends)
        self._ends = frozenset(each for each in (*ends, tokenizer.eos_token_id) if each is not None)

    # ── prompts ─────────────────────────────────────────────────────────────────────────────────

    def written(self, prompt: Prompt) -> str:
        """Write a conversation as the model was taught to read it, or as plain lines if nobody says how."""
        turns = [("system", prompt.system)] if prompt.system else []
        turns += list(prompt.messages)
        if self.tokenizer.chat_template is None:
            return "\n\n".join([*(f"{role}: {text}" for role, text in turns), "assistant:"])
        chat = [{"role": role, "content": text} for role, text in turns]
        text: str = self.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        return text

    def begin(self, prompt: Prompt) -> tuple[list[int], Answer]:
        """Turn a prompt into tokens, and the answer that is to follow them.

        Raises
        ------
        ContextWindowExceededError
            If it leaves no room for an answer.
        """
        is_chat = self.tokenizer.chat_template is not None  # such a template writes the special tokens itself
        tokens: list[int] = self.tokenizer(self.written(prompt), add_special_tokens=not is_chat)["input_ids"]
        room = prompt.max_tokens or _ROOM
        if self.limit is not None:
            if len(tokens) >= self.limit:
                raise ContextWindowExceededError(
                    f"the prompt has {len(tokens)} tokens, and {prompt.model} can read {self.limit}, answer included",
                    hint="shorten it, or give fewer demos",
                )
            room = min(room, self.limit - len(tokens))
        stops = prompt.stop if is_chat else (*prompt.stop, *_TURNS)
        return tokens, Answer(
            prompt, self._decoded, n_prompt=len(tokens), room=room, ends=self._ends, stops=stops
        )

    def _decoded(self, tokens: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(tokens, skip_special_tokens=True)
        return text

    # ── answers ─────────────────────────────────────────────────────────────────────────────────

    def write(self, prompts: Sequence[list[int]], answers: Sequence[Answer]) -> Iterator[None]:
        """Write answers in step, one token each a turn; those that are over leave the batch."""
        import torch

        device = self.net.device
        longest = max(map(len, prompts))
        padding = self.tokenizer.pad_token_id or 0
        ids = torch.tensor([[padding] * (longest - len(each)) + each for each in prompts], device=device)
        mask = torch.tensor(
            [[0] * (longest - len(each)) + [1] * len(each) for each in prompts], device=device
        )
        draws = [_generator(answer.prompt, device) for answer in answers]
        cache: Any = None
        live = list(range(len(answers)))
        while live:
            logits, cache = self._step(ids, mask, cache)
            chosen = [_chosen(row, answers[k].prompt, draws[k]) for k, row in zip(live, logits, strict=True)]
            for k, token in zip(live, chosen, strict=True):
                answers[k].add(token)
            yield
            kept = [place for place, k in enumerate(live) if not answers[k].is_over]
            ids = torch.tensor([[chosen[place]] for place in kept], device=device)
            if kept and len(kept) < len(live):
                cache.batch_select_indices(torch.tensor(kept, device=device))
            mask = torch.nn.functional.pad(mask[kept], (0, 1), value=1)
            live = [live[place] for place in kept]

    def _step(self, ids: Any, mask: Any, cache: Any) -> tuple[Any, Any]:
        """Read the new tokens; returns what may follow each row, and what the model remembers."""
        import torch

        options: dict[str, Any] = {}
        if (
            self._takes_positions
        ):  # shorter prompts are padded on the left, and their first word is still the first
            options["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        with torch.inference_mode():
            out = self.net(
                input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, **options
            )
        return out.logits[:, -1].float(), out.past_key_values


def _generator(prompt: Prompt, device: Any) -> Any:
    """Make a prompt's own random numbers, so that its neighbours in a batch do not change them."""
    import torch

    generator = torch.Generator(device=device)
    if prompt.seed is None:
        generator.seed()
    else:
        generator.manual_seed(prompt.seed + prompt.rollout)
    return generator


def _chosen(logits: Any, prompt: Prompt, generator: Any) -> int:
    """Draw the next token; without a temperature, take the likeliest."""
    import torch

    if not prompt.temperature:
        return int(logits.argmax())
    shares = torch.softmax(logits / prompt.temperature, dim=-1)
    if prompt.top_p is not None and prompt.top_p < 1:
        ordered, order = shares.sort(descending=True)
        # A token stays if those before it do not reach top_p yet, so that at least one does.
        ordered[ordered.cumsum(-1) - ordered >= prompt.top_p] = 0
        shares = torch.zeros_like(shares).scatter(0, order, ordered)
    return int(torch.multinomial(shares, 1, generator=generator))


# ── what workers are asked to do ────────────────────────────────────────────────────────────────


def load(path: str, dtype: str) -> Causal:
    """Load a model; the state of its session."""
    from transformers import AutoModelForCausalLM

    tokenizer, net = loaded(path, dtype, AutoModelForCausalLM)
    return Causal(tokenizer, net)


def loaded(path: str, dtype: str, kind: Any) -> tuple[Any, Any]:
    """Load a tokenizer and a net from a folder alone, onto the worker's GPU if it has one.

    Raises
    ------
    DefinitionError
        If what is in the folder cannot be loaded.
    """
    import torch
    from transformers import AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if dtype == "auto" and device == "cpu":
        dtype = "float32"  # what processors are fast at
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
        net = kind.from_pretrained(path, local_files_only=True, dtype=dtype)
    except (OSError, ValueError, KeyError) as error:
        raise DefinitionError(
            f"the model in {path!r} cannot be loaded: {error}", hint="is every file of it there, and whole?"
        ) from error
    return tokenizer, net.to(device).eval()


def complete(model: Causal, prompts: Sequence[Prompt]) -> list[Completion | Exception]:
    """Answer prompts together; one that cannot be answered has its error in its place."""
    begun = [_begun(model, prompt) for prompt in prompts]
    good = [each for each in begun if isinstance(each, tuple)]
    if good:
        for _ in model.write([tokens for tokens, _ in good], [answer for _, answer in good]):
            pass
    return [each[1].completion() if isinstance(each, tuple) else each for each in begun]


def _begun(model: Causal, prompt: Prompt) -> tuple[list[int], Answer] | ContextWindowExceededError:
    try:
        return model.begin(prompt)
    except ContextWindowExceededError as error:
        return error


def pieces(model: Causal, prompt: Prompt) -> Iterator[str | Completion]:
    """Answer one prompt as its words come; the whole is last."""
    tokens, answer = model.begin(prompt)
    for _ in model.write([tokens], [answer]):
        piece = answer.piece()
        if piece:
            yield piece
    yield answer.completion()
