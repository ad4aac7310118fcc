"""Tiny models that are built here, saved as any other, and loaded through the code that loads large ones."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import dspex as dx
from dspex.pools import PoolSpec, named

END = "<|end|>"
ANSWER, FOUR, DONE = "[[ ## answer ## ]]\n", "four", "\n\n[[ ## completed ## ]]\n"
LAST_CHARACTERS = "{{ messages[-1]['content'] }}"
"""A chat template after which the user's last character is the prompt's."""


def tokenizer():
    """Make a tokenizer of bytes, and of a few whole words."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(BPE(vocab={letter: k for k, letter in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    made.add_tokens([ANSWER, FOUR, DONE])
    made.add_special_tokens([END])
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token=END)


def config(kind, words, **options):
    size = len(words)
    known = {"vocab_size": size, "eos_token_id": words.eos_token_id, "bos_token_id": words.eos_token_id}
    if kind is GPT2Config:
        return GPT2Config(n_layer=2, n_head=2, **known, **options)
    return LlamaConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=512, **known,
    )  # fmt: skip


def chained(words, follows, room):
    """Make a model that writes what follows the last token: one of several with equal chance."""
    size = len(words)
    net = GPT2LMHeadModel(config(GPT2Config, words, n_embd=size, n_positions=room, tie_word_embeddings=False))
    with torch.no_grad():
        for name, values in net.named_parameters():
            if ".c_proj." in name or "wpe" in name or "lm_head" in name:
                values.zero_()  # what remains is the token itself
        net.transformer.wte.weight.copy_(torch.eye(size))
        for before, after in follows:
            net.lm_head.weight[after, before] = 2.0
    return net


def chain(words):
    """Say what follows what: an answer after a colon, the alphabet, tosses of a coin, letters of two bytes."""
    token = words.convert_tokens_to_ids
    pairs = [(":", ANSWER), (ANSWER, FOUR), (FOUR, DONE), (DONE, END)]
    letters = "abcdefghijklmnopqrstuvwxyz"
    pairs += [*zip(letters, [*letters[1:], END], strict=True)]
    pairs += [(before, after) for before in "?HT" for after in "HT"]
    pairs += [("!", "Ã"), ("Ã", "©"), ("©", "Ã")]  # how this tokenizer writes the two bytes of é
    return [(token(before), token(after)) for before, after in pairs]


def save(folder, net, words):
    net.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def plain(tmp_path_factory):
    """Save a model that answers "four", and no chat template."""
    words = tokenizer()
    return save(tmp_path_factory.mktemp("models") / "plain", chained(words, chain(words), 2048), words)


@pytest.fixture(scope="session")
def talker(tmp_path_factory):
    """Save a model that goes on from the user's last character."""
    words = tokenizer()
    words.chat_template = LAST_CHARACTERS
    return save(tmp_path_factory.mktemp("models") / "talker", chained(words, chain(words), 512), words)


@pytest.fixture(scope="session", params=["gpt2", "llama"])
def untaught(request, tmp_path_factory):
    """Save a model of random weights, which looks at every word of its prompt."""
    torch.manual_seed(1)
    words = tokenizer()
    kind = {"gpt2": GPT2Config, "llama": LlamaConfig}[request.param]
    net = (
        GPT2LMHeadModel(config(kind, words, n_embd=32, n_positions=512))
        if kind is GPT2Config
        else LlamaForCausalLM(config(kind, words))
    )
    with torch.no_grad():
        for values in net.parameters():
            values.mul_(4.0)  # so that what it says depends on more than the last word
    return save(tmp_path_factory.mktemp("models") / request.param, net, words)


@pytest.fixture(scope="module")
def pool():
    """Define a pool whose workers find torch and transformers imported."""
    made = dx.pools.define(
        "tiny", PoolSpec(workers=2, preload=("dspy", "torch", "transformers.models.gpt2.modeling_gpt2"))
    )
    yield made
    named.close("tiny")
    del named._specs["tiny"]
