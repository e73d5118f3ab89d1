"""Use a tuned prompt without maao: `maao export` copies this file beside the tensors that it writes, and it reads them there.

It needs torch, transformers and safetensors; PEFT too where the prompt is an adapter.

    python use_prompt.py text="Shares fall as the oil price climbs"
    python use_prompt.py use_adapter.json text="Shares fall as the oil price climbs"

    from use_prompt import TunedPrompt
    TunedPrompt(".").probabilities({"text": "Shares fall as the oil price climbs"})

What model is loaded, what stands around the slots and how classes are read is said by ``use_prompt.json`` (``use_adapter.json`` for a PEFT
adapter). One text is run at a time, and none is cut to fit the model's context. The name of a special token in a text (``</s>``) is read as
that token here, and as ordinary text by `maao predict`.
"""

from __future__ import annotations

import json
import os
import re
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file

DATA = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet", ".txt", ".xlsx", ".xls", ".ods", ".gz", ".zip", ".bz2", ".xz", ".zst")
SETTINGS = ("use_prompt.json", "use_adapter.json")


class TunedPrompt:
    """A frozen model with a tuned prompt in its input, and how classes are read from it.

    Args:
        folder: where it was exported to.
        settings: which file there says how it is used; by default ``use_prompt.json``, else ``use_adapter.json``.
    """

    def __init__(self, folder: str | Path = ".", settings: str | None = None) -> None:
        folder = Path(folder)
        settings = settings or next((name for name in SETTINGS if (folder / name).is_file()), SETTINGS[0])
        self.use: dict[str, Any] = json.loads((folder / settings).read_text(encoding="utf-8"))
        named = {} if self.use["revision"] is None else {"revision": self.use["revision"]}
        options = {**named, "trust_remote_code": False}  # whatever the settings say
        self.tokenizer: Any = transformers.AutoTokenizer.from_pretrained(self.use["model"], **options)
        options = {"dtype": getattr(torch, self.use["dtype"]), **self.use["model_options"], **options}
        model: Any = getattr(transformers, self.use["model_class"]).from_pretrained(self.use["model"], **options)
        if self.use["adapter"]:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, str(folder))
        self.model = model.eval()
        self.tensors = {} if self.use["tensors"] is None else load_file(folder / self.use["tensors"])

    def probabilities(self, fields: Mapping[str, str], choices: Sequence[str] = ()) -> dict[str, float]:
        """Return the probability of each label, or of each of the `choices` where an example has answers of its own to choose from.

        Args:
            fields: the text of each field of the template.
        """
        with torch.no_grad():
            if choices and self.use["reads"] in ("head", "scores"):  # which scores one choice at a time
                scores = torch.cat([self.class_scores({**fields, "choice": choice}) for choice in choices])
            else:
                words = {choice: self._choice(choice) for choice in choices} or self.use["words"]
                scores = self.class_scores(fields, words)
        return dict(zip(choices or self.use["labels"], scores.softmax(-1).tolist(), strict=True))

    def class_scores(self, fields: Mapping[str, str], words: Mapping[str, Sequence[int]] | None = None) -> torch.Tensor:
        """Return the scores of the labels (or of other `words`, as token ids): their softmax is the probabilities."""
        before, after, second = self.ids(fields)
        reads, words = self.use["reads"], words or self.use["words"]
        if reads == "scores":  # a classification model's own
            stock: torch.Tensor = self.run(before, after, second).logits[0].float()
            return stock
        if reads == "head":
            hidden = self.run(before, after, second).last_hidden_state[0].float()
            at = {"virtual": len(before), "first": self.use["begins_at"], "last": -1}.get(self.use["pooling"])
            pooled = hidden.mean(0) if at is None else hidden[at]
            return self.tensors["head.weight"] @ pooled + self.tensors.get("head.bias", torch.zeros(()))
        assert words is not None
        if self.use["one_token"] and words is self.use["words"]:
            where = self._mask_at(before, after) if reads == "mask" else -1
            logits = self.run(before, after, second).logits[0, where]
            scores = logits[[word[0] for word in words.values()]].float()
        else:
            scores = torch.stack([self._word_score(before, after, second, list(word)) for word in words.values()])
        return scores + self.tensors["calibration"] if "calibration" in self.tensors else scores

    def ids(self, fields: Mapping[str, str]) -> tuple[list[int], list[int], int | None]:
        """Return the token ids before and after the slots, and where among them (slots not counted) the second segment begins."""
        before, parted = self._filled(self.use["before"], fields)
        after, parted_after = self._filled(self.use["after"], fields)
        return before, after, parted if parted_after is None else len(before) + parted_after

    def run(self, before: Sequence[int], after: Sequence[int], second: int | None = None, spoken: Sequence[int] = ()) -> Any:
        """Return what the model gives for token ids around the slots; `spoken` is what a decoder beside the input has said."""
        row, arguments = [*before, *after], dict[str, Any]()
        if "keys" in self.tensors:  # they stand in front of everything
            keys, values = (self.tensors[name].to(self.model.dtype) for name in ("keys", "values"))  # (layers, heads, tokens, width)
            arguments["past_key_values"] = transformers.DynamicCache([(k[None], v[None]) for k, v in zip(keys, values, strict=True)])
        if "prompt" in self.tensors:
            prompt = self.tensors["prompt"]  # (tokens, embed_dim)
            row = [*before, *[self.use["fill"]] * len(prompt), *after]
            table = self.model.get_input_embeddings()
            embeddings = table(torch.tensor([row])).detach()
            embeddings[0, len(before) : len(before) + len(prompt)] = prompt.to(self.model.dtype)
            arguments["inputs_embeds"] = embeddings
        else:
            arguments["input_ids"] = torch.tensor([row])
        if self.use["token_types"] and second is not None:
            second += len(row) - len(before) - len(after) if second >= len(before) else 0
            arguments["token_type_ids"] = torch.tensor([[int(place >= second) for place in range(len(row))]])
        if self.use["reads"] == "decoder":
            arguments["decoder_input_ids"] = torch.tensor([[*self.use["start"], *spoken]])
        return self.model(**arguments)

    def _word_score(self, before: list[int], after: list[int], second: int | None, word: list[int]) -> torch.Tensor:
        """Return the mean log-probability of a word's tokens."""
        if self.use["reads"] == "mask":  # a mask for each token
            mask, at = self.use["mask"], self._mask_at(before, after)
            if second is not None and [*before, *after].index(mask) < second:
                second += len(word) - 1
            before, after = ([t for one in part for t in [one] * (len(word) if one == mask else 1)] for part in (before, after))
            logits = self.run(before, after, second).logits[0, at : at + len(word)]
        elif self.use["reads"] == "decoder":
            logits = self.run(before, after, second, word[:-1]).logits[0, -len(word) :]
        else:
            logits = self.run(before, [*after, *word[:-1]], second).logits[0, -len(word) :]
        found: torch.Tensor = logits.float().log_softmax(-1)[range(len(word)), word].mean()
        return found

    def _mask_at(self, before: Sequence[int], after: Sequence[int]) -> int:
        mask = self.use["mask"]
        return before.index(mask) if mask in before else len(before) + self.use["slots"] + after.index(mask)

    def _filled(self, items: Sequence[Any], fields: Mapping[str, str]) -> tuple[list[int], int | None]:
        """Return the token ids of a part of the template, and where in it the second segment begins."""
        ids, second = list[int](), None
        for item in items:
            if item == "second":
                second = len(ids)
            elif isinstance(item, int):
                ids.append(item)
            else:
                text = re.sub(r"\{(\w+)\}", lambda match: fields[match[1]] if match[1] in self.use["fields"] else match[0], item["text"])
                ids += self._tokens(text, begins=item["begins"])
        return ids, second

    def _tokens(self, text: str, *, begins: bool) -> list[int]:
        """Return the token ids of a text that begins the input, or goes on behind other text.

        Many tokenizers write a text's first word as if a space stood before it. Behind other text it must not be.
        """
        if begins or not self.use["joins"] or not text:
            return self._split(text)
        for before in ("a", "the", "1", ")", ":"):
            alone, both = self._split(before), self._split(before + text)
            if alone and both[: len(alone)] == alone:
                return both[len(alone) :]
        raise ValueError(f"The tokenizer joins the beginning of {text!r} to whatever stands before it.")

    def _split(self, text: str) -> list[int]:
        found: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids if text else []
        return found

    def _choice(self, choice: str) -> list[int]:
        """Return the token ids of an answer, with a space before it where its script sets one."""
        word = choice.strip()
        first = word[:1] or " "
        script = "unspaced" if "\u3000" <= first <= "\u303f" or unicodedata.name(first, "").split(" ")[0] in UNSPACED else "spaced"
        return self._tokens(self.use["choice_space"][script] + word, begins=self.use["choice_begins"])


# How Unicode names the letters and marks of scripts that set no space between words. Korean sets spaces.
UNSPACED = (
    "CJK IDEOGRAPHIC FULLWIDTH HALFWIDTH HIRAGANA KATAKANA KATAKANA-HIRAGANA BOPOMOFO YI "
    "THAI LAO KHMER MYANMAR TIBETAN TAI JAVANESE BALINESE"
).split()

if __name__ == "__main__":
    folder, words = Path(__file__).parent, sys.argv[1:]
    said = [word for word in words if "=" not in word]
    there = [name for name in SETTINGS if (folder / name).is_file()]
    if len(said) > 1 or not set(said) <= set(there):
        sys.exit(
            f"Give each field as NAME=TEXT, and at most one settings file ({', '.join(there)}); got {said}. "
            "Files of texts are read in Python, with TunedPrompt."
        )
    prompt = TunedPrompt(folder, *said)
    given = dict(word.split("=", 1) for word in words if "=" in word)
    if set(given) != set(prompt.use["fields"]) or len(given) + len(said) != len(words):
        sys.exit("Give each field once, as NAME=TEXT: " + " ".join(f'{name}="..."' for name in prompt.use["fields"]))
    for text in [text for text in given.values() if text.lower().endswith(DATA)]:
        if os.path.isfile(text):
            sys.exit(f"{text} is a file, and texts are read here. Read files in Python, with TunedPrompt.")
        if len(text.split()) == 1 and "://" not in text:
            print(f"Note: {text} is taken for a text, since no file is called so.", file=sys.stderr)
    for label, probability in prompt.probabilities(given).items():
        print(f"{probability:.4f}\t{label}")
