"""Whole networks, compiled and exported, compute what they compute."""

import onnx
import onnxruntime
import pytest
import torch

from fdseg.frequency import BoxSplit
from fdseg.networks import ResidualUNet, SegmentationNetwork

SIZE = (16, 14, 10)


@pytest.fixture(params=["early", "late"], scope="module")
def network(request):
    torch.manual_seed(0)
    return SegmentationNetwork(
        ResidualUNet(), 8, structures=2, fusion=request.param, split=BoxSplit(0.3, size=SIZE)
    ).eval()


@pytest.fixture(scope="module")
def volume():
    return torch.randn(1, 1, *SIZE, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def onnx_file(network, volume, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "network.onnx"
    torch.onnx.export(
        network,
        (volume,),
        path,
        dynamo=True,
        input_names=["image"],
        output_names=["logits"],
        external_data=False,
    )
    return path


def agree(a, b):
    torch.testing.assert_close(torch.as_tensor(a), b, rtol=0, atol=1e-4)


@torch.no_grad()
def test_a_compiled_network_is_one_graph_and_agrees(network, volume):
    agree(torch.compile(network, fullgraph=True)(volume), network(volume))


@torch.no_grad()
def test_an_exported_program_agrees(network, volume):
    agree(torch.export.export(network, (volume,)).module()(volume), network(volume))


@torch.no_grad()
def test_an_onnx_file_agrees_in_another_runtime(network, volume, onnx_file):
    onnx.checker.check_model(onnx_file)
    session = onnxruntime.InferenceSession(onnx_file, providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == [1, 1, *SIZE]
    (logits,) = session.run(["logits"], {"image": volume.numpy()})
    agree(logits, network(volume))


def test_an_onnx_file_holds_neither_fourier_transforms_nor_complex_numbers(onnx_file):
    model = onnx.load(onnx_file)
    operations = {node.op_type for node in model.graph.node}
    assert "Conv" in operations
    assert operations & {"DFT", "STFT"} == set()
    complex_types = {onnx.TensorProto.COMPLEX64, onnx.TensorProto.COMPLEX128}
    values = [*model.graph.input, *model.graph.output, *model.graph.value_info]
    assert {value.type.tensor_type.elem_type for value in values} & complex_types == set()
