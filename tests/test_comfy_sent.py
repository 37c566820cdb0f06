"""What ComfyUI's browser side changes when it sends a workflow: names of values in texts, primitives, old names."""

import time
from typing import Any

import pytest

from flowdesign.comfy.interface import resolve


def sent(*nodes: dict[str, Any], links: Any = (), subgraphs: Any = ()) -> dict[str, Any]:
    """The inputs of every node of a file that are sent."""
    value = {"nodes": list(nodes), "links": list(links), "definitions": {"subgraphs": subgraphs}}
    graph, problems = resolve(value, names=True)
    assert not problems
    return {key: each["inputs"] for key, each in graph.items()}


def node(number: int, kind: str, *values: Any, **more: Any) -> dict[str, Any]:
    return {"id": number, "type": kind, "widgets_values": list(values)} | more


def widget(name: str, link: int | None) -> dict[str, Any]:
    return {"name": name, "type": "*", "link": link, "widget": {"name": name}}


SAMPLER = node(3, "KSampler", 7, "fixed", 20, 7.5, "euler", "normal", 1.0, title="First")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("%KSampler.seed%/%KSampler.cfg%", "7/7.5"),
        ("%First.sampler_name%_%KSampler.denoise%", "euler_1"),
        ("%Empty Latent Image.width%x%EmptyLatentImage.height%", "512x640"),
        ("%Load Checkpoint.ckpt_name%", "a_b.safetensors"),  # no folder by the name of a value
        ("%Nobody.seed%, %KSampler.nothing%, %width%, %a.b.c%, 100%", None),
        ("%date:yyyy-MM-dd%/%KSampler.steps%", "%date:yyyy-MM-dd%/20"),
    ],
)
def test_names_of_values_in_the_name_of_a_file(written: str, expected: str | None) -> None:
    found = sent(
        SAMPLER,
        node(4, "EmptyLatentImage", 512, 640, 1),
        node(5, "CheckpointLoaderSimple", "a/b.safetensors"),
        node(9, "SaveImage", written),
        node(10, "CLIPTextEncode", written),
    )
    assert found["9"]["filename_prefix"] == (written if expected is None else expected)
    assert found["10"]["text"] == written


def test_a_node_is_called_by_its_own_name_before_a_title() -> None:
    named = {"properties": {"Node name for S&R": "First"}}
    other = node(4, "KSampler", 8, "fixed", 21, 7.5, "euler", "normal", 1.0, **named)
    found = sent(SAMPLER, other, node(9, "SaveVideo", "%First.seed%", "auto", "auto"))
    assert found["9"]["filename_prefix"] == "8"


def test_numbers_are_written_as_a_browser_does() -> None:
    values = [2**64 - 1, "fixed", True, 1e-7, 0.00001, None, 1.0]
    call = "%KSampler.seed% %KSampler.steps% %KSampler.cfg% %KSampler.sampler_name% %KSampler.scheduler%"
    found = sent(node(3, "KSampler", *values), node(9, "SaveImage", call))
    assert found["9"]["filename_prefix"] == "18446744073709552000 true 1e-7 0.00001 "


def test_many_names_in_a_text_are_no_bomb() -> None:
    call = "%CLIPTextEncode.text%" * 3000
    found = sent(node(3, "CLIPTextEncode", "x" * 20_000), node(9, "SaveImage", call))
    assert found["9"]["filename_prefix"] == call


def test_a_long_text_in_many_places_is_read_once() -> None:
    inner = {
        "id": "in",
        "nodes": [node(5, "SaveImage", "%a.b%" * 16_000)],
        "links": [],
        "inputs": [],
    }
    started = time.process_time()
    assert len(sent(*(node(at, "in") for at in range(250)), subgraphs=[inner])) == 250
    assert time.process_time() - started < 2


def test_a_primitives_text_is_changed_like_that_of_the_widget_it_feeds() -> None:
    encoder = node(3, "CLIPTextEncode", "old", inputs=[widget("text", 1)])
    saver = node(4, "SaveImage", "old", inputs=[widget("filename_prefix", 2)])
    text = "a {red} star // %CLIPTextEncode.text%"
    primitive = node(1, "PrimitiveNode", text, properties={"Run widget replace on values": False})
    links = [[1, 1, 0, 3, 0, "STRING"], [2, 1, 0, 4, 0, "STRING"]]
    found = sent(primitive, encoder, saver, links=links)
    assert found["3"]["text"] == "a red star "
    assert found["4"]["filename_prefix"] == text.replace("%CLIPTextEncode.text%", text_of(text))


def text_of(value: str) -> str:
    """A value as part of the name of a file."""
    return value.replace("/", "_")


def test_a_primitive_may_name_values() -> None:
    primitive = node(
        1,
        "PrimitiveNode",
        "seed %KSampler.seed%",
        properties={"Run widget replace on values": True},
    )
    encoder = node(4, "CLIPTextEncode", "old", inputs=[widget("text", 1)])
    found = sent(primitive, SAMPLER, encoder, links=[[1, 1, 0, 4, 0, "STRING"]])
    assert found["4"]["text"] == "seed 7"


@pytest.mark.parametrize("kind", ["TextGenerate", "MiniMaxH3ImageToVideo"])
def test_other_classes_have_such_texts_too(kind: str) -> None:
    listed = [{"name": "prompt", "type": "STRING", "link": None, "widget": {"name": "prompt"}}]
    assert sent(node(1, kind, "a {red} star // b", inputs=listed))["1"] == {"prompt": "a red star "}


def test_the_first_files_call_samplers_differently() -> None:
    values = [7, True, 20, 7.5, "sample_euler", "normal", 1.0]
    assert sent(node(3, "KSampler", *values))["3"]["sampler_name"] == "euler"


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("SaveVideo", ["a", "mp4", "h264"], {"filename_prefix": "a", "format": "mp4", "codec": "h264"}),
        (
            "SaveVideo", ["a", "mp4", "h264", "auto"],
            {"filename_prefix": "a", "format": "mp4", "format.codec": "h264", "codec": "auto"},
        ),
        ("SaveGLB", ["a", ""], {"filename_prefix": "a", "image": ""}),
        ("GetImageSize", ["width: 8"], {}),
        ("LoadImage", ["a.png", {"name": "upload", "type": "button"}], {"image": "a.png"}),
        ("LoadAudio", ["a.mp3", None, ""], {"audio": "a.mp3"}),
        ("ImageScaleToTotalPixels", ["area", 1.0], {"upscale_method": "area", "megapixels": 1.0}),
        (
            "ImageScaleToTotalPixels", ["area", 1.0, 8],
            {"upscale_method": "area", "megapixels": 1.0, "resolution_steps": 8},
        ),
        (
            "ResizeImageMaskNode", ["scale dimensions", 512, 640, "center", "area"],
            {
                "resize_type": "scale dimensions", "resize_type.width": 512, "resize_type.height": 640,
                "resize_type.crop": "center", "scale_method": "area",
            },
        ),
        (
            "ResizeImageMaskNode", ["scale by multiplier", 2.0, "area"],
            {"resize_type": "scale by multiplier", "resize_type.multiplier": 2.0, "scale_method": "area"},
        ),
        (
            "TextGenerate", ["a {star}", 256, "off", True],
            {"prompt": "a star", "max_length": 256, "sampling_mode": "off", "thinking": True},
        ),
        ("SaveAudioAdvanced", ["a", "flac"], {"filename_prefix": "a", "format": "flac"}),
        ("ModelSamplingAuraFlow", [3.1], {"shift": 3.1}),
        ("ModelSamplingAuraFlow", [3.1, "v"], {"shift": 3.1, "sampling": "v"}),
    ],
)  # fmt: skip
def test_classes_that_grew_give_what_a_file_has(
    kind: str, values: list[Any], expected: dict[str, Any]
) -> None:
    assert sent(node(1, kind, *values))["1"] == expected


def test_more_values_than_names_are_told() -> None:
    value = node(1, "SaveVideo", "a", "mp4", "h264", "re-encode", 23.0, "auto")
    graph, problems = resolve({"nodes": [value], "links": []}, names=True)
    assert graph["1"]["inputs"] == {"filename_prefix": "a", "format": "mp4"}
    assert [each.message for each in problems] == ["Some values of 'SaveVideo' have no names here."]
    value = node(1, "ResizeImageMaskNode", "scale as nobody does", 2, "area")
    graph, problems = resolve({"nodes": [value], "links": []}, names=True)
    assert graph["1"]["inputs"] == {} and len(problems) == 1


def test_previews_and_buttons_are_no_inputs() -> None:
    values = {"frame_rate": 8, "choose video to upload": "image", "videopreview": {"hidden": False}}
    found = sent({"id": 1, "type": "VHS_VideoCombine", "widgets_values": values})
    assert found["1"] == {"frame_rate": 8}


def test_a_subgraph_in_a_subgraph_is_sent_whatever_its_mode() -> None:
    """Only those of the file's own graph are passed over; what hangs on the others is passed on or gone."""
    ends = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    inner = {
        "id": "in", "nodes": [node(5, "Loader", outputs=[{"type": "X"}])],
        "links": [dict(zip(ends, (1, 5, 0, -20, 0, "X"), strict=True))], "inputs": [],
    }  # fmt: skip
    for mode in (0, 2, 4):
        user = node(6, "User", inputs=[{"name": "x", "type": "X", "link": 2}])
        nested = node(7, "in", mode=mode, outputs=[{"type": "X", "links": [2]}], inputs=[])
        outer = {
            "id": "out", "nodes": [nested, user], "inputs": [],
            "links": [dict(zip(ends, (2, 7, 0, 6, 0, "X"), strict=True))],
        }  # fmt: skip
        found = sent(node(1, "out"), subgraphs=[inner, outer])
        assert found == {"1:7:5": {}, "1:6": {} if mode else {"x": ["1:7:5", 0]}}
        assert sent(node(1, "out", mode=mode or 2), subgraphs=[inner, outer]) == {}


def test_a_bypassed_node_outside_passes_on_what_the_subgraphs_input_wants() -> None:
    ends = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    user = node(6, "User", inputs=[{"name": "x", "type": "B", "link": 1}])
    inner = {
        "id": "in", "nodes": [user], "inputs": [{"name": "any", "type": "*"}],
        "links": [dict(zip(ends, (1, -10, 0, 6, 0, "B"), strict=True))],
    }  # fmt: skip
    giver = node(1, "Giver", outputs=[{"type": "A"}, {"type": "B"}])
    inputs = [{"type": "A", "link": 3}, {"type": "B", "link": 4}]
    passing = node(2, "Passing", mode=4, inputs=inputs, outputs=[{"type": "B"}])
    instance = node(7, "in", inputs=[{"name": "any", "type": "*", "link": 5}])
    links = [[3, 1, 0, 2, 0, "A"], [4, 1, 1, 2, 1, "B"], [5, 2, 0, 7, 0, "*"]]
    found = sent(giver, passing, instance, links=links, subgraphs=[inner])
    assert found["7:6"] == {"x": ["1", 0]}


def test_a_primitive_outside_a_subgraph_feeds_the_widget_outside_alone() -> None:
    """That is not read once something is linked to it: what is sent is the value inside."""
    ends = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    inner = {
        "id": "in", "inputs": [{"name": "text"}],
        "nodes": [node(5, "CLIPTextEncode", "inside", inputs=[widget("text", 1)])],
        "links": [dict(zip(ends, (1, -10, 0, 5, 0, "STRING"), strict=True))],
    }  # fmt: skip
    primitive = node(1, "PrimitiveNode", "primitive")
    instance = node(2, "in", "outside", inputs=[widget("text", 1)])
    found = sent(primitive, instance, links=[[1, 1, 0, 2, 0, "STRING"]], subgraphs=[inner])
    assert found["2:5"] == {"text": "inside"}
    instance["inputs"] = [widget("text", None)]
    assert sent(primitive, instance, subgraphs=[inner])["2:5"] == {"text": "outside"}


def test_a_primitive_feeds_no_input_that_is_no_widget() -> None:
    socket = {"name": "text", "type": "STRING", "link": 1}
    found = sent(
        node(1, "PrimitiveNode", "x"), node(2, "Any", inputs=[socket]), links=[[1, 1, 0, 2, 0, "*"]]
    )
    assert found["2"] == {}


@pytest.mark.parametrize("values", [None, [], [9]])
def test_all_that_hang_on_an_input_get_the_value_of_the_first_inside(
    values: list[int] | None,
) -> None:
    """If the instance gives none, as in most files: the first is that in the input's own list. Texts stay as they are."""
    ends = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    sampler = node(4, "KSampler", 7, "fixed", 30, 7.5, "euler", "normal", 1.0)
    inner = {
        "id": "in",
        "inputs": [{"name": "steps", "linkIds": [2, 1]}, {"name": "text", "linkIds": [3]}],
        "nodes": [
            SAMPLER | {"inputs": [widget("steps", 1)]},
            sampler | {"inputs": [widget("steps", 2)]},
            node(5, "CLIPTextEncode", "a {red} star", inputs=[widget("text", 3)]),
        ],
        "links": [
            dict(zip(ends, (at, -10, slot, target, 0, "*"), strict=True))
            for at, slot, target in ((1, 0, 3), (2, 0, 4), (3, 1, 5))
        ],
    }  # fmt: skip
    outer = {
        "id": "out", "inputs": [{"name": "n"}],
        "nodes": [node(8, "in", inputs=[widget("steps", 6), widget("text", None)])],
        "links": [dict(zip(ends, (6, -10, 0, 8, 0, "*"), strict=True))],
    }  # fmt: skip
    instance = node(1, "out", inputs=[widget("n", None)])
    instance["widgets_values"] = values
    found = sent(instance, subgraphs=[inner, outer])
    expected = 9 if values else 30
    assert [found[f"1:8:{each}"]["steps"] for each in (3, 4)] == [expected, expected]
    assert found["1:8:5"] == {"text": "a {red} star"}


def test_a_bypassed_subgraph_passes_on_by_the_order_of_its_definition() -> None:
    """A file out of a PNG lists no widgets that nothing is linked to, which changes the numbers of the others."""
    inner = {
        "id": "in", "nodes": [], "links": [],
        "inputs": [{"name": n, "type": t} for n, t in (("text", "STRING"), ("a", "IMAGE"), ("b", "IMAGE"))],
    }  # fmt: skip
    givers = [node(at, "Giver", outputs=[{"type": "IMAGE"}]) for at in (1, 2)]
    sockets = [{"name": "a", "type": "IMAGE", "link": 1}, {"name": "b", "type": "IMAGE", "link": 2}]
    outputs = [{"type": "IMAGE"}, {"type": "IMAGE"}, {"type": "IMAGE"}]
    user = node(4, "User", inputs=[{"name": "x", "type": "IMAGE", "link": 3}])
    links = [[1, 1, 0, 3, 0, "IMAGE"], [2, 2, 0, 3, 1, "IMAGE"], [3, 3, 1, 4, 0, "IMAGE"]]
    for inputs in (sockets, [widget("text", None), *sockets]):
        instance = node(3, "in", mode=4, inputs=inputs, outputs=outputs)
        found = sent(*givers, instance, user, links=links, subgraphs=[inner])
        assert found["4"] == {"x": ["1", 0]}
