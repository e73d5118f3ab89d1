"""The reference runs: nested settings by name. Each takes a second or two; of the packaged models half a minute."""

from __future__ import annotations

import os
from pathlib import Path

from maao.types import JSON

PAPER = Path(__file__).parent.parent.parent / "experiments" / "paper" / "released.py"
RELEASED = f"{PAPER}:Released"
FEWGLUE = Path(os.environ.get("MAAO_DATA", "data")) / "fewglue"

REPLIES = [
    "1. music team bank\n2. the news of the world",
    '1. "sport and music"\n2. business news',
    "Sure! Here are two:\n- label of the text\n- topic of the news",
]
TAGGED = ["<INS>music team bank news</INS>", "<INS>the topic of it</INS>", "<prompt>no</prompt>"]
BRED = [
    "1. x\n2. <prompt>the news of a team</prompt>",
    "<prompt>label of the market text</prompt>",
    "<prompt>great film award</prompt>",
]
TEXTS = ["the news of", "topic of it", "a label", "sport and music", "business news of the world"]
CHAT: JSON = {"provider": "scripted", "replies": REPLIES}
ASKED: JSON = {"retries": 0, "chat": CHAT}
SCRIPT: JSON = {"name": "scripted", "texts": TEXTS}
NONE: JSON = {"name": "none"}
RESTART: JSON = {"name": "random_restart"}
BEST: JSON = {"rule": "best_of"}
FIRST: JSON = {"rule": "always_first"}
MASK = "{text} {slots} It was {mask}"
MULTI = {"business": "market economy growth", "music": "album star", "sport": "goal"}
PROBES = ("zero_shot", "linear_probe", "lp++", "class_residual")


def fewglue(task: str, folder: str) -> JSON:
    files = {"train": "train", "select": "dev32", "test": "val"}
    named = {part: str(FEWGLUE / folder / f"{name}.jsonl") for part, name in files.items()}
    return {"task": task, "protocol": "fewglue-32", "drop_repeats": True, **named}


def without_mentor(settings: JSON) -> JSON:
    """Return settings without what only proposals read, where nobody proposes."""
    if settings["mentor"] is not NONE:
        return settings
    plan = {key: value for key, value in settings["plan"].items() if key != "proposals"}
    return {**{key: value for key, value in settings.items() if key != "accept"}, "plan": plan}


def runs(place: Path) -> dict[str, JSON]:
    """Return the settings of every run on what `assets.make` wrote below a folder."""
    models, pictures = place / "models", str(place / "pictures")
    files = {part: str(place / "data" / f"{part}.csv") for part in ("train", "select", "test")}
    pool, corpus = str(place / "data" / "pool.csv"), str(place / "data" / "corpus.txt")

    def text(
        model: str = "llama",
        *,
        mentor: JSON = ASKED,
        accept: JSON | None = None,
        plan: JSON | None = None,
        stage: JSON | None = None,
        data: JSON | None = None,
        seed: int = 0,
        **settings: object,
    ) -> JSON:
        own: JSON = {"name": model if ":" in model else str(models / model), "num_virtual_tokens": 4}
        if data is None or "task" not in data:
            own["template"] = "{text} {slots} Topic:"
        found = {
            "seed": seed,
            "threads": 1,
            "model": {**own, **settings},
            "data": data or files,
            "stage": {"batch_size": 8, **(stage or {})},
            "plan": plan or {"rounds": 2, "steps": 4, "store_every": 2, "proposals": 2, "first": "ask"},
            "accept": accept or {"rule": "race", "steps": 2},
            "mentor": mentor,
        }
        return without_mentor(found)

    def picture(
        method: str = "coop",
        *,
        mentor: JSON | None = None,
        data: JSON | None = None,
        stage: JSON | None = None,
        plan: JSON | None = None,
        model: str | None = None,
        seed: int = 0,
        **settings: object,
    ) -> JSON:
        own: JSON = {"name": model or str(models / "clip"), "method": method}
        if method not in PROBES:
            own["initial"] = "vocabulary"
        found = {
            "seed": seed,
            "threads": 1,
            "model": {**own, **settings},
            "data": data or {"input": "image", "source": pictures, "shots": 2, "select_shots": 2},
            "plan": plan or {"rounds": 1, "steps": 4, "store_every": 2},
            "accept": BEST,
            "mentor": mentor or (NONE if method in PROBES else {"name": "scripted", "texts": ["a photo of the", "small drawing"]}),
            "stage": {"lr": 0.02, **(stage or {})},
        }
        return without_mentor(found)

    def function(name: str, mentor: JSON, **sections: JSON) -> JSON:
        plan = {"rounds": 2, "steps": 6, "store_every": 3, "proposals": 2}
        return {"problem": "function", "threads": 1, "function": {"name": name, "dim": 3}, "plan": plan, "mentor": mentor, **sections}

    return {
        # methods
        "prompt_tuning": text(),
        "prompt_tuning_restart": text(mentor=RESTART, seed=3),
        "p_tuning_lstm": text(mentor=SCRIPT, method="p_tuning", hidden=8),
        "p_tuning_mlp": text(mentor=RESTART, method="p_tuning", encoder="mlp", hidden=8, accept={"rule": "if_better"}),
        "prefix_tuning": text(mentor=SCRIPT, method="prefix_tuning", accept=BEST),
        "prefix_tuning_restart": text(mentor=RESTART, method="prefix_tuning"),
        "prefix_tuning_projection": text(mentor=SCRIPT, method="prefix_tuning", projection=True, hidden=8, accept=BEST),
        "prefix_tuning_bert": text("bert", mentor=SCRIPT, method="prefix_tuning", template="{text} {slots}", accept=BEST),
        "pez": text(mentor=SCRIPT, method="pez", stage={"lr": 0.3}),
        # kinds
        "masked": text("bert_masked", kind="masked", template=MASK),
        "masked_roberta_words": text("roberta_masked", kind="masked", template=MASK, label_words=MULTI, mentor=SCRIPT),
        "head_mean": text(
            "bert", template="{text} {slots}", mentor=SCRIPT, plan={"rounds": 1, "steps": 4, "store_every": 2, "proposals": 2}
        ),
        "head_first": text("bert", template="{slots} {text}", pooling="first", mentor=RESTART),
        "head_virtual": text("bert", template="{slots} {text}", pooling="virtual", mentor=NONE),
        "encoder_decoder": text("t5", mentor=SCRIPT),
        "encoder_decoder_words": text("t5", mentor=NONE, label_words=MULTI, template="{slots} {text} Topic:"),
        "label_words": text(label_words=MULTI, mentor=SCRIPT),
        "vocabulary": text(objective="vocabulary", mentor=SCRIPT, accept=BEST),
        "slots_first": text("gpt2", template="{slots} {text} Topic:", padding_side="left", mentor=SCRIPT, accept=BEST),
        "slots_middle": text("gpt2", template="It was {slots} {text} Topic:", cache_mib=0, mentor=SCRIPT, accept=BEST),
        "chat": text("llama_chat", chat=True, template="{text} {slots} Topic", accept=FIRST),
        "fluency": text(codec="fluent", fluency=0.5, mentor=SCRIPT, accept=FIRST),
        "released": text(codec=RELEASED, least_similar=True, joined_by_spaces=True, mentor=SCRIPT, accept=FIRST),
        "released_special": text(codec=RELEASED, narrow_vocabulary=True, special_tokens=True, mentor=SCRIPT, accept=FIRST),
        "released_embed_twice": text("bert", template="{text} {slots}", codec=RELEASED, embed_twice=True, mentor=SCRIPT),
        "free_length": text(length="free", accept=FIRST),
        "frozen_dropout": text("gpt2", frozen_dropout=True, mentor=SCRIPT),
        "class_weights": text(class_weights={"business": 1.0, "music": 2.0, "sport": 0.5}, mentor=SCRIPT),
        "class_weights_balanced": text("bert", template="{text} {slots}", class_weights="balanced", mentor=NONE),
        "part_tokens": text(part_tokens=40, mentor=NONE),
        "memory": text(memory_mib=1, mentor=NONE, template="{slots} {text} Topic:"),
        "initial_text": text(initial="text", initial_text="the news of the world", mentor=SCRIPT),
        "initial_labels": text(initial="labels", mentor=NONE),
        "initial_normal": text(initial="normal", distance="l2", mentor=RESTART),
        "bfloat16": text(dtype="bfloat16", mentor=NONE),
        "pool": text(mentor=NONE, data={"source": pool, "shots": 3, "test_size": 6}),
        "superglue_copa": text(
            mentor=SCRIPT, max_length=62, data=fewglue("copa", "COPA"), plan={"kind": "legs", "legs": [{"steps": 0}, {"steps": 2}]}
        ),
        "superglue_wsc_masked": text(
            "roberta_masked",
            kind="masked",
            mentor=NONE,
            max_length=62,
            data=fewglue("wsc", "WSC"),
            plan={"kind": "legs", "legs": [{"steps": 0}, {"steps": 2}]},
        ),
        # stages and plans
        "cma_es": text(mentor=RESTART, stage={"kind": "cma_es", "population": 4, "dim": 4}),
        "lr_grid": text(mentor=SCRIPT, stage={"lr_grid": [0.003, 0.03], "lr_steps": 2}),
        "sgd": text(
            mentor=SCRIPT,
            stage={
                "optimizer": "SGD",
                "lr": 0.1,
                "options": {"momentum": 0.9},
                "schedule": "cosine",
                "warmup_steps": 2,
                "on_restart": "keep",
            },
            accept=FIRST,
        ),
        "schedules": text(
            mentor=NONE,
            stage={
                "schedule": "exponential",
                "kind": f"{PAPER}:OnceAnEpoch",
                "every": 2,
                "warmup_steps": 1,
                "warmup_lr": 0.001,
                "max_grad_norm": 0,
            },
        ),
        "average": text(mentor=NONE, stage={"average_mean": 1.0, "average_std": 2.0, "schedule": "linear"}),
        "epochs": text(mentor=SCRIPT, plan={"kind": "epochs", "epochs": 3, "ask_after": [0, 1], "proposals": 2}),
        "legs": text(
            mentor=SCRIPT,
            plan={
                "kind": "legs",
                "legs": [
                    {"steps": 2, "keep_every": 1},
                    {"steps": 3, "ask": True, "proposals": 2},
                    {"steps": 0, "ask": True, "proposals": 1},
                ],
            },
        ),
        "patience": text(
            mentor=SCRIPT,
            stage={"lr": 0.3},
            plan={"rounds": 3, "steps": 4, "store_every": 2, "proposals": 1, "patience": 2, "min_delta": 0.01},
        ),
        "budget": {**text(), "budget": {"gradient_steps": 12, "llm_calls": 2}},
        # rules
        "always_first": text(accept=FIRST),
        "best_of": text(accept=BEST),
        "if_better": text(accept={"rule": "if_better"}),
        "interpolate": text(accept={"rule": "interpolate", "weight": 0.3}),
        "interpolate_race": text(accept={"rule": "interpolate", "inner": "race", "steps": 2}),
        "interpolate_prefix": text(
            method="prefix_tuning", accept={"rule": "interpolate", "weight": 0.6, "inner": "if_better"}, mentor=SCRIPT
        ),
        "race_rungs": text(
            accept={"rule": "race", "steps": 3, "rungs": [1, 2], "margin": 0.001},
            plan={"rounds": 2, "steps": 4, "store_every": 2, "proposals": 3},
            mentor=SCRIPT,
        ),
        # mentors
        "perturb": text(mentor={"name": "perturb", "size": 0.4}),
        "reset": text(mentor={"name": "reset"}, accept=FIRST),
        "reproject": text(mentor={"name": "reproject"}, accept=FIRST, plan={"rounds": 2, "steps": 4, "store_every": 2, "proposals": 1}),
        "random_text": text(mentor={"name": "random_text", "corpus": corpus}, accept=FIRST),
        "evolution": text(
            mentor={"name": "evolution", "population": 3}, plan={"rounds": 3, "steps": 2, "store_every": 2, "proposals": 3, "first": "ask"}
        ),
        "soft_input": text(
            mentor={"name": "soft_input", "max_tokens": 8, "max_samples": 2},
            plan={"rounds": 2, "steps": 4, "store_every": 2, "proposals": 2},
            accept=FIRST,
        ),
        "chat_all_shown": text(
            mentor={
                "listing": 4,
                "choice": "spread",
                "retries": 1,
                "temperature": 0.5,
                "shown": {"nearest": True, "examples": True, "self_continuation": True, "top_words": 2},
                "chat": CHAT,
            },
            plan={"rounds": 3, "steps": 4, "store_every": 2, "proposals": 2},
        ),
        "chat_wording": text(mentor={"wording": "chat", "choice": "contrast", "retries": 0, "chat": CHAT}, accept=FIRST),
        "completion": text(
            mentor={
                "style": "completion",
                "max_samples": 3,
                "chat": {"provider": "scripted", "replies": [" the news of the bank\n", " a team and a coach\n", " film"]},
            },
            accept=FIRST,
        ),
        "local_chat": text(
            "llama_chat",
            chat=True,
            template="{text} {slots} Topic",
            mentor={"retries": 0, "max_tokens": 12},
            plan={"rounds": 1, "steps": 2, "store_every": 2, "proposals": 2},
            accept=FIRST,
        ),
        "structured": text(
            mentor={
                "structured": True,
                "retries": 0,
                "chat": {
                    "provider": "scripted",
                    "replies": ['{"prompts": ["music team bank", "the news"]}', '[{"prompt": "topic of it"}, {"prompt": "a label"}]'],
                },
            },
            accept=FIRST,
        ),
        "opro": text(mentor={"name": "opro", "exemplars": 2, "chat": {"provider": "scripted", "replies": TAGGED}}, accept=FIRST),
        "ape": text(
            mentor={
                "name": "ape",
                "exemplars": 2,
                "chat": {"provider": "scripted", "replies": [" to say the topic of the news.", " that they name the label of it."]},
            },
            accept=FIRST,
        ),
        "evoprompt_de": text(
            mentor={"name": "evoprompt_de", "population": 3, "texts": TEXTS[:3], "chat": {"provider": "scripted", "replies": BRED}},
            plan={"rounds": 3, "steps": 2, "store_every": 2, "proposals": 3, "first": "ask"},
            accept=BEST,
        ),
        "evoprompt_ga": text(
            mentor={"name": "evoprompt_ga", "population": 3, "texts": TEXTS[:3], "chat": {"provider": "scripted", "replies": BRED}},
            plan={"rounds": 3, "steps": 2, "store_every": 2, "proposals": 3, "first": "ask"},
            accept=BEST,
        ),
        "mix_restart": text(mentor={"retries": 0, "mix": {"name": "random_restart"}, "chat": CHAT}, accept=FIRST),
        "mix_perturb": text(
            mentor={"retries": 0, "mix": {"name": "perturb", "size": 0.3}, "mix_share": 0.4, "chat": CHAT},
            plan={"rounds": 2, "steps": 4, "store_every": 2, "proposals": 3},
        ),
        "mix_evolution": text(
            mentor={
                "name": "opro",
                "exemplars": 0,
                "mix": {"name": "evolution", "population": 4},
                "chat": {"provider": "scripted", "replies": TAGGED},
            },
            plan={"rounds": 3, "steps": 2, "store_every": 2, "proposals": 3},
        ),
        "fills_words": text(
            mentor={
                "name": "scripted",
                "fills": ["label_words"],
                "texts": [
                    "the news of | market | song | team",
                    "topic of it | economy | album star | goal",
                    "a label | growth | actor | race",
                    "pig",
                ],
            },
            accept=FIRST,
        ),
        "fills_template": text(
            mentor={
                "name": "scripted",
                "fills": ["template", "label_words"],
                "texts": [
                    "the news of | text {text} {slots} label | market | song | team",
                    "topic of it | {slots} {text} It was | economy | film | goal",
                ],
            },
            plan={"rounds": 1, "steps": 4, "store_every": 2, "proposals": 2, "first": "ask"},
        ),
        "fills_chat": text(
            mentor={
                "retries": 0,
                "fills": ["template", "label_words"],
                "chat": {
                    "provider": "scripted",
                    "replies": [
                        (
                            "1. the news of | text {text} {slots} label | market | song | team\n"
                            "2. topic of it | {slots} {text} It was | economy | film | goal"
                        )
                    ],
                },
            },
            accept=FIRST,
        ),
        "fills_random_text": text(mentor={"name": "random_text", "corpus": corpus, "fills": ["label_words"]}),
        # packaged
        "smollm2": {
            **text(
                "packaged:smollm2-135m-instruct",
                mentor=SCRIPT,
                data={"source": "packaged:bbc-headlines", "shots": 2, "select_shots": 2, "test_size": 5},
                stage={"batch_size": 4},
                plan={"rounds": 1, "steps": 2, "store_every": 2, "proposals": 1},
                accept=BEST,
            )
        },
        # pictures
        "coop": picture(),
        "coop_vocabulary_restart": picture(mentor=RESTART, class_specific=True),
        "coop_text": picture(initial="text", initial_text="a drawing of the", seed=2),
        "coop_class_specific": picture(class_specific=True, mentor=NONE, template="{slots} {class}"),
        "coop_chat": picture(
            mentor={"retries": 0, "chat": {"provider": "scripted", "replies": ["1. a photo of the\n2. small drawing of a"]}}
        ),
        "coop_evolution": picture(
            mentor={"name": "evolution", "population": 3}, plan={"rounds": 2, "steps": 3, "store_every": 3, "proposals": 3}
        ),
        "coop_perturb": picture(mentor={"name": "perturb", "size": 0.4}),
        "coop_parts": picture(part_tokens=16, mentor=NONE),
        "coop_views": picture(views=2, mentor=NONE),
        "cocoop": picture("cocoop"),
        "kgcoop": picture("kgcoop", weight=4.0),
        "prograd": picture("prograd", temperature=0.5),
        "tcp": picture("tcp"),
        "maple": picture("maple", depth=2),
        "input_prompt": picture("input_prompt", num_input_tokens=2),
        "promptsrc": picture("promptsrc", stage={"average_mean": 1.0}),
        "linear_probe": picture("linear_probe"),
        "lp++": picture("lp++"),
        "zero_shot": picture("zero_shot"),
        "class_residual": picture("class_residual", bias=True, class_examples=0.5),
        "emoji": picture(
            model="packaged:emoji-vit", data={"source": "emoji", "shots": 1}, mentor=NONE, plan={"rounds": 1, "steps": 2, "store_every": 2}
        ),
        "emoji_base_to_new": picture(
            "kgcoop",
            model="packaged:emoji-vit",
            data={"source": "emoji", "shots": 1, "protocol": "base-to-new"},
            mentor=NONE,
            plan={"rounds": 1, "steps": 1, "store_every": 1},
        ),
        # functions
        "function_scripted": function("rastrigin", {"name": "scripted", "texts": ["1 0 -1", "0.1 0.2 0.3", "x", "2 2 2"]}),
        "function_chat": function(
            "ackley", {"retries": 0, "chat": {"provider": "scripted", "replies": ["1. 0.5 0.25 0\n2. 1 1 1", "0.1 0.1 0.1"]}}, accept=BEST
        ),
        "function_perturb": function("rosenbrock", {"name": "perturb", "size": 0.5}, accept={"rule": "interpolate", "weight": 0.5}),
        "function_cma_es": function("ackley", RESTART, stage={"kind": "cma_es", "population": 4, "dim": 3}),
    }
