"""Where training runs: one process or many, on CPUs or GPUs, by Lightning Fabric. The only file that knows of it.

    world = start(Hardware(device="cuda", devices=4, strategy="ddp", precision="bfloat16"))
    module = world.wrap(module)      # its forward sees this process's rows; gradients are means over processes

Shapes: B rows of the global batch, b = B / size rows of this process, in the global order: process r has rows
r b ... (r + 1) b. Under torchrun the number of processes is torchrun's.
"""

from __future__ import annotations

import logging
import os
import warnings
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, distributed, nn

from segue.errors import SegueError

Precision = Literal["float32", "bfloat16"]
Strategy = Literal["auto", "ddp", "fsdp"]


@dataclass(frozen=True)
class Hardware:
    """What to train on.

    Attributes:
        device: `cpu`, `cuda`, `cuda:1`, `mps`.
        devices: processes on this machine, each with a device of its own.
        nodes: machines.
        strategy: `ddp` keeps the whole model on every device, `fsdp` a share of it; `auto` is `ddp` where there is
            more than one process.
        precision: `bfloat16` runs matrix products and convolutions in bfloat16.
    """

    device: str = "cpu"
    devices: int = 1
    nodes: int = 1
    strategy: Strategy = "auto"
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        kind, _, index = self.device.partition(":")
        if self.devices < 1 or self.nodes < 1:
            raise SegueError(f"devices {self.devices}, nodes {self.nodes}: at least 1 each")
        if index and self.devices > 1:
            raise SegueError(f"device {self.device}: names one device, but {self.devices} are asked for; give {kind}")
        if kind == "cuda" and torch.cuda.device_count() < self.devices:
            raise SegueError(f"devices {self.devices}: torch sees {torch.cuda.device_count()} GPUs here; ask for fewer")


class World:
    """The processes of one training, and this one's place among them.

    Args:
        fabric: a launched lightning_fabric.Fabric.
        hardware: what it was made for.

    Attributes:
        device: this process's.
        rank: its number, from 0.
        size: number of processes.
        sharded: whether parameters are spread over the processes.
        hardware: what was asked for.
    """

    def __init__(self, fabric: Any, hardware: Hardware) -> None:
        self._fabric = fabric
        self.hardware = hardware
        self.device: torch.device = fabric.device
        self.rank, self.size = int(fabric.global_rank), int(fabric.world_size)
        self.sharded = hardware.strategy == "fsdp"

    def __deepcopy__(self, memo: dict[int, Any]) -> World:
        return self  # there is but one, whatever is copied

    @property
    def is_first(self) -> bool:
        """Whether this process speaks and writes for all."""
        return self.rank == 0

    def rows(self, batch_size: int, accumulate: int = 1) -> slice:
        """This process's rows of a global batch.

        Raises:
            SegueError: if processes and parts can't have equal numbers of rows.
        """
        if batch_size % (self.size * accumulate):
            raise SegueError(
                f"train.batch_size {batch_size}: {self.size} processes of {accumulate} parts (train.accumulate) can't "
                f"share it evenly; use a multiple of {self.size * accumulate}"
            )
        rows = batch_size // self.size
        return slice(self.rank * rows, (self.rank + 1) * rows)

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module on its device; its forward runs in the precision asked for, its gradients are shared."""
        return self._fabric.setup_module(module)

    def backward(self, loss: Tensor) -> None:
        """`loss.backward()`, for a loss of wrapped modules."""
        self._fabric.backward(loss)

    def unsynced(self, module: nn.Module, unsynced: bool = True) -> AbstractContextManager[Any]:
        """Within, backward passes of a wrapped module keep their gradients to themselves."""
        return self._fabric.no_backward_sync(module, enabled=unsynced) if self.size > 1 else nullcontext()

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision asked for, for what is not wrapped."""
        return self._fabric.autocast()

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum over the processes."""
        if self.size == 1:
            return tensor
        total = tensor.detach().to(self.device, copy=True)
        distributed.all_reduce(total)
        return total

    def mean(self, tensor: Tensor) -> Tensor:
        """Mean over the processes."""
        return self.sum(tensor) / self.size if self.size > 1 else tensor

    def sums(self, *numbers: float) -> list[float]:
        """Sums of plain numbers over the processes."""
        return self.sum(torch.tensor(numbers, dtype=torch.float64)).tolist() if self.size > 1 else list(numbers)

    def floats(self, named: dict[str, Tensor]) -> dict[str, float]:
        """Scalars as numbers, means over the processes."""
        values = torch.stack([value.detach().float() for value in named.values()])
        return dict(zip(named, self.mean(values).tolist(), strict=True))

    def gather(self, rows: Tensor) -> Tensor:
        """(b, ...) of each process -> (B, ...). Gradients flow to the own rows, on the understanding that every
        process goes on to compute the same from all of them, and that gradients are means over processes."""
        return _Gather.apply(rows, self.rank, self.size) if self.size > 1 else rows

    def barrier(self) -> None:
        """Wait for the others."""
        if self.size > 1:
            distributed.barrier()


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, rank: int, size: int) -> Tensor:
        ctx.rank, ctx.size = rank, size
        pieces = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(size)]
        distributed.all_gather(pieces, rows.contiguous())
        return torch.cat(pieces)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0].chunk(ctx.size)[ctx.rank] * ctx.size, None, None


def alone(device: torch.device | str = "cpu", precision: Precision = "float32") -> World:
    """One process on one device."""
    return start(Hardware(str(device), precision=precision))


def start(hardware: Hardware) -> World:
    """Start the processes, or take one's place among those that torchrun or a cluster has started.

    Where it starts them itself, the other processes run this program again from its beginning.

    Raises:
        SegueError: if Fabric is missing, can't do what is asked for, or torchrun started another number of processes.
    """
    try:
        from lightning_fabric import Fabric
    except ImportError as error:
        raise SegueError('training needs lightning-fabric; pip install "segue[train]"') from error
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    devices, nodes = _counts(hardware)
    kind, _, index = hardware.device.partition(":")
    try:
        fabric = Fabric(
            accelerator=kind,
            devices=[int(index)] if index else devices,
            num_nodes=nodes,
            strategy=_strategy(hardware.strategy, devices * nodes),
            plugins=_low_precision(kind) if hardware.precision == "bfloat16" else None,
        )
        fabric.launch()
    except (ValueError, RuntimeError) as error:
        wanted = f"device {hardware.device}, devices {devices}, nodes {nodes}, strategy {hardware.strategy}"
        raise SegueError(f"{wanted}: Fabric can't start this here ({' '.join(str(error).split())})") from error
    return World(fabric, hardware)


def _low_precision(device: str) -> Any:
    """Products in bfloat16 of what comes in single precision: a wave rounded to 8 bits loses all that is quiet."""
    from lightning_fabric.plugins.precision import MixedPrecision

    class Products(MixedPrecision):
        def convert_input(self, data: Any) -> Any:
            return data

    return Products("bf16-mixed", device)


def _counts(hardware: Hardware) -> tuple[int, int]:
    """Devices a machine, and machines."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return hardware.devices, hardware.nodes
    local = int(os.environ["LOCAL_WORLD_SIZE"])
    if hardware.devices not in (1, local):
        raise SegueError(f"devices {hardware.devices}: torchrun has started {local} processes; leave --devices out")
    return local, int(os.environ["WORLD_SIZE"]) // local


def _strategy(name: Strategy, processes: int) -> Any:
    # Gradients of depthwise convolutions come in another memory layout than DDP's buckets; copying them costs little.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    if name == "fsdp":
        from lightning_fabric.strategies import ModelParallelStrategy

        return ModelParallelStrategy(_shard, data_parallel_size=processes, tensor_parallel_size=1)
    return "ddp" if processes > 1 else "auto"


def _shard(module: nn.Module, mesh: Any) -> nn.Module:
    """Spread a module over the processes: the members of its lists one by one, then the rest."""
    from torch.distributed.fsdp import fully_shard

    # Blocks also return keys and values, which are views that training does not touch.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    for inner in list(module.modules()):
        if isinstance(inner, nn.ModuleList):
            for member in inner:
                fully_shard(member, mesh=mesh["data_parallel"])
    fully_shard(module, mesh=mesh["data_parallel"])
    return module
