"""Keys of axolotl and LLaMA-Factory that need no rule: the same under another name, or already so here."""

from __future__ import annotations

__all__ = ["AXOLOTL", "LLAMA_FACTORY", "MEANT", "NO", "SCHEDULES", "SO_HERE"]

_BOTH = {
    "learning_rate": "tune.lr",
    "gradient_accumulation_steps": "tune.accumulation",
    "lora_alpha": "tune.alpha",
    "lora_dropout": "tune.dropout",
    "max_steps": "tune.max_steps",
    "weight_decay": "tune.weight_decay",
    "max_grad_norm": "tune.max_grad_norm",
    "warmup_ratio": "tune.warmup",
    "seed": "tune.seed",
    "save_total_limit": "tune.keep",
    "eval_steps": "tune.eval_every",
    "save_steps": "tune.checkpoint_every",
    "adam_epsilon": "tune.eps",
    "loraplus_lr_ratio": "tune.lora_plus_ratio",
}
AXOLOTL = {
    **_BOTH,
    "base_model": "model.name",
    "revision_of_model": "model.revision",
    "lora_r": "tune.r",
    "num_epochs": "tune.epochs",
    "micro_batch_size": "tune.batch_size",
    "sequence_len": "tune.max_tokens",
    "peft_use_dora": "tune.use_dora",
    "peft_use_rslora": "tune.use_rslora",
    "loraplus_lr_ratio": "tune.lora_plus_ratio",
}
LLAMA_FACTORY = {
    **_BOTH,
    "model_name_or_path": "model.name",
    "model_revision": "model.revision",
    "lora_rank": "tune.r",
    "num_train_epochs": "tune.epochs",
    "per_device_train_batch_size": "tune.batch_size",
    "cutoff_len": "tune.max_tokens",
    "max_samples": "data.train_rows",
    "use_dora": "tune.use_dora",
    "use_rslora": "tune.use_rslora",
    "double_quantization": "model.double_quant",
}
MEANT = {
    **LLAMA_FACTORY,
    **AXOLOTL,
    "load_in_4bit": "model.quantize",
    "lr_scheduler": "tune.schedule",
    "lr_scheduler_type": "tune.schedule",
    "lora_target": "tune.target_modules",
    "lora_target_modules": "tune.target_modules",
    "dataset": "data.train",
    "datasets": "data.train",
}
"""What keys of other tools are called here: for did-you-mean."""

SO_HERE = {
    "train_on_inputs": (False, "only outputs and EOS are trained on"),
    "train_on_prompt": (False, "only outputs and EOS are trained on"),
    "stage": ("sft", "the same"),
    "do_train": (True, "the same"),
    "group_by_length": (None, "rows of a batch are sorted by length"),
    "sample_packing": (None, "rows are not packed; nothing of one row is seen by another"),
    "packing": (None, "rows are not packed; nothing of one row is seen by another"),
    "trust_remote_code": (False, "no code of a model is run"),
    "overwrite_output_dir": (None, "a run goes on, or starts over with --fresh"),
    "resume_from_checkpoint": (None, "the same command resumes"),
    "overwrite_cache": (None, "nothing to set"),
    "logging_steps": (None, "every step is logged"),
    "plot_loss": (None, "the curve is always drawn"),
    "bnb_4bit_quant_type": ("nf4", "the same"),
    "quantization_method": ("bnb", "the same"),
    "bnb_4bit_use_double_quant": (True, "the same"),
}
"""Key -> (the value that is as it is here, None for any; how it is)."""

SCHEDULES = {
    "cosine": "cosine",
    "linear": "linear",
    "constant": "constant",
    "constant_with_warmup": "constant",
}
NO = "there is nothing like it"
