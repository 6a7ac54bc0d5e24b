"""The pickle that torch.save puts into its archive, for tests that run without PyTorch."""

import pickle
from collections import OrderedDict


class _Rebuild:
    """Pickled as a call of torch._utils._rebuild_tensor_v2."""

    def __init__(self, number, array):
        self.number, self.array = number, array


class _Pickler(pickle._Pickler):
    def save_global_name(self, module, name):
        self.write(pickle.GLOBAL + f"{module}\n{name}\n".encode())

    def save(self, value, *arguments, **options):
        if not isinstance(value, _Rebuild):
            return super().save(value, *arguments, **options)
        shape = value.array.shape
        strides = tuple(stride // value.array.itemsize for stride in value.array.strides)
        self.save_global_name("torch._utils", "_rebuild_tensor_v2")
        self.write(pickle.MARK + pickle.MARK)
        self.save("storage")
        self.save_global_name("torch", "FloatStorage")
        for part in (str(value.number), "cpu", value.array.size):
            self.save(part)
        self.write(pickle.TUPLE + pickle.BINPERSID)
        for part in (0, shape, strides, False):
            self.save(part)
        self.save_global_name("collections", "OrderedDict")
        self.write(pickle.EMPTY_TUPLE + pickle.REDUCE + pickle.TUPLE + pickle.REDUCE)
        return None


def table_of_tensors(arrays):
    """Return the pickle of float32 arrays, the storage of each under its number."""
    import io

    buffer = io.BytesIO()
    table = OrderedDict((name, _Rebuild(number, array)) for number, (name, array) in enumerate(arrays.items()))
    _Pickler(buffer, protocol=2).dump(dict(table))
    return buffer.getvalue()
