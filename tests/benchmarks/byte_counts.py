"""Memory that tensors take and that operations move, counted operation by operation: the same on every machine."""

import weakref
from collections.abc import Iterable

from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Within it, `now` is the bytes of all storages that are alive, those of `held` and of whatever operations make,
    and `peak` the most that `now` has been. What an operation takes for itself (a kernel's workspace) is not in it."""

    def __init__(self, held: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._alive: dict[int, weakref.ref] = {}  # of each storage, by the id that is its own while it lives
        for tensor in held:
            self._note(tensor)

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        made = operation(*arguments, **(options or {}))
        for leaf in tree_leaves(made):
            if isinstance(leaf, Tensor):
                self._note(leaf)
        return made

    def _note(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = id(storage), storage.nbytes()
        if key in self._alive:
            return

        def freed(_: weakref.ref) -> None:
            self.now -= size
            del self._alive[key]

        self._alive[key] = weakref.ref(storage, freed)
        self.now += size
        self.peak = max(self.peak, self.now)


class MovedBytes(TorchDispatchMode):
    """Within it, `total` is the bytes that operations read and write at least: each tensor that goes in, once, and each
    that comes out. Views move nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        made = operation(*arguments, **(options or {}))
        read = {id(one): one for one in tree_leaves((arguments, options)) if isinstance(one, Tensor)}
        written = {id(one): one for one in tree_leaves(made) if isinstance(one, Tensor)}
        storages = {one.untyped_storage().data_ptr() for one in read.values()}
        aliases = all(one.untyped_storage().data_ptr() in storages for one in written.values())
        if operation._schema.is_mutable or not (aliases and read) and "empty" not in operation.name():
            self.total += sum(one.nbytes for one in (*read.values(), *written.values()))
        return made


def without_data(module: nn.Module, mode: FakeTensorMode) -> None:
    """Puts tensors of the same sizes, without values, in the place of parameters and buffers: operations on them
    under `mode` cost no memory, and little time."""
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            fake = nn.Parameter(mode.from_tensor(parameter.detach()), parameter.requires_grad)
            part.register_parameter(name, fake)
        for name, buffer in part.named_buffers(recurse=False):
            setattr(part, name, mode.from_tensor(buffer))
