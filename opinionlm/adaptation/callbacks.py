"""Methods whose trained set changes while training: AdaLoRA's ranks and LISA's blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import AdaLoraConfig, PeftModel
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from opinionlm.adaptation.methods import adapted_part, peft_part, wrapped_part
from opinionlm.config.method_options import MethodConfig
from opinionlm.errors import UserError
from opinionlm.models.backbones import anatomy_of

ALLOCATION = "adalora.safetensors"


def training_callbacks(
    model: PreTrainedModel | PeftModel, method: MethodConfig, total_steps: int
) -> list[TrainerCallback]:
    """Callbacks that a method needs while it trains; most need none."""
    match method.adaptation:
        case "adalora":
            return [RankAllocation(wrapped_part(model), total_steps)]
        case "lisa":
            return [BlockSampling(model, method)]
        case _:
            return []


def auxiliary_loss(model: PreTrainedModel | PeftModel) -> torch.Tensor | None:
    """AdaLoRA's penalty on singular vectors that are not orthonormal (Zhang et al. 2023, equation 5), else None.

    PEFT adds it to the loss that a model computes itself, which our trainers do not use.
    """
    wrapped = peft_part(model)
    if wrapped is None or not isinstance(wrapped.active_peft_config, AdaLoraConfig):
        return None
    penalties = []
    for name, parameter in wrapped.named_parameters():
        kind = name.split(".")[-2]
        if kind in ("lora_A", "lora_B"):
            product = parameter @ parameter.T if kind == "lora_A" else parameter.T @ parameter
            penalties.append(torch.linalg.matrix_norm(product - torch.eye(len(product)).to(product)))
    return wrapped.active_peft_config.orth_reg_weight * torch.stack(penalties).mean()


class RankAllocation(TrainerCallback):
    """Moves AdaLoRA's ranks to the layers that need them; without it they would never fall.

    The running importance of every weight goes into the checkpoints, so that a resumed run prunes the same values.
    """

    def __init__(self, wrapped: PeftModel, total_steps: int) -> None:
        self.tuner = wrapped.base_model
        self.config = wrapped.active_peft_config
        self.config.total_step = total_steps

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """After the optimizer's step, while the gradients are still there; a step that was skipped has none."""
        if all(parameter.grad is None for parameter in self.tuner.parameters()):
            return
        # The step that has just been made is counted a moment later.
        self.tuner.update_and_allocate(state.global_step + 1)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Write the running importance and the ranks beside the checkpoint's weights."""
        if not state.is_world_process_zero:
            return
        allocator = self.tuner.rankallocator
        tensors = {f"ipt/{name}": value for name, value in allocator.ipt.items()}
        tensors |= {f"exp_avg_ipt/{name}": value for name, value in allocator.exp_avg_ipt.items()}
        tensors |= {f"exp_avg_unc/{name}": value for name, value in allocator.exp_avg_unc.items()}
        for name, kept in (self.config.rank_pattern or {}).items():
            tensors[f"rank_pattern/{name}"] = torch.tensor(kept, dtype=torch.bool)
        save_file({name: value.contiguous().cpu() for name, value in tensors.items()}, checkpoint(args, state))

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Read them back when a run goes on."""
        if state.global_step == 0:
            return
        if not checkpoint(args, state).is_file():
            raise UserError(
                f"{checkpoint(args, state)}: missing, so AdaLoRA cannot go on where it stopped; delete that "
                "checkpoint, or set resume_from_checkpoint: false"
            )
        allocator, patterns = self.tuner.rankallocator, {}
        kinds = {"ipt": allocator.ipt, "exp_avg_ipt": allocator.exp_avg_ipt, "exp_avg_unc": allocator.exp_avg_unc}
        for key, value in load_file(checkpoint(args, state), device=str(args.device)).items():
            kind, name = key.split("/", 1)
            if kind == "rank_pattern":
                patterns[name] = value.tolist()
            else:
                kinds[kind][name] = value
        self.config.rank_pattern = patterns or None


def checkpoint(args: TrainingArguments, state: TrainerState) -> Path:
    """Where the allocation of the current step is kept."""
    return Path(args.output_dir) / f"checkpoint-{state.global_step}" / ALLOCATION


class BlockSampling(TrainerCallback):
    """LISA (Pan et al. 2024): every so many steps other blocks train; the embedding and all above the blocks always.

    Which blocks is decided by the seed and the number of the interval alone, so a resumed run draws the same. The
    optimizer knows all blocks and keeps its averages of those that pause.
    """

    def __init__(self, model: PreTrainedModel, method: MethodConfig) -> None:
        self.blocks = anatomy_of(adapted_part(model)).blocks
        self.count, self.interval = method.lisa_blocks, method.lisa_interval

    def drawn(self, seed: int, interval: int) -> list[int]:
        """Positions of the blocks that train in an interval, ascending."""
        generator = torch.Generator().manual_seed(seed * 1_000_003 + interval)
        return sorted(torch.randperm(len(self.blocks), generator=generator)[: self.count].tolist())

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Refuse what cannot work."""
        if args.world_size > 1:
            raise UserError(
                "adaptation: lisa changes which blocks have gradients, which distributed training fixes at its start; "
                "run one process, or use another method"
            )

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Let the drawn blocks train, and no others."""
        active = self.drawn(args.seed, state.global_step // self.interval)
        for position, block in enumerate(self.blocks):
            block.requires_grad_(position in active)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Between steps all blocks count as trained: checkpoints hold every one."""
        for block in self.blocks:
            block.requires_grad_(True)
