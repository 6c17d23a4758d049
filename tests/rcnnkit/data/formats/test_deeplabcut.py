"""DeepLabCut's CSV files: one animal and several, paths in one column and in three, boxes from points, damage."""

import pytest
from PIL import Image

from rcnnkit.data.formats import choose_reader
from rcnnkit.data.formats.deeplabcut import DeepLabCutReader, box_around
from rcnnkit.data.labelled import ProblemLog, Skeleton
from rcnnkit.data.tree import Tree
from rcnnkit.errors import UserError

ONE = """scorer,Ann,Ann,Ann,Ann
bodyparts,nose,nose,tail,tail
coords,x,y,x,y
labeled-data/v/0.png,10,20,30.5,60
labeled-data/v/1.png,10,20,,
"""
SEVERAL = """scorer,,,Ann,Ann,Ann,Ann,Ann,Ann,Ann,Ann,Ann,Ann
individuals,,,m1,m1,m1,m1,m2,m2,m2,m2,single,single
bodyparts,,,nose,nose,tail,tail,nose,nose,tail,tail,door,door
coords,,,x,y,x,y,x,y,x,y,x,y
labeled-data,v,0.png,1,2,3,4,,,,,50,60
labeled-data,v,1.png,1,2,3,4,5,6,7,8,,
"""


@pytest.fixture
def project(tmp_path):
    """Writes a project and returns its root."""
    folder = tmp_path / "labeled-data" / "v"
    folder.mkdir(parents=True)
    for index in range(3):
        Image.new("L", (100, 80)).save(folder / f"{index}.png")

    def write(text, config=None, name="CollectedData_Ann.csv"):
        (folder / name).write_text(text)
        if config is not None:
            (tmp_path / "config.yaml").write_text(config)
        return tmp_path

    return write


def read(root, **options):
    problems = ProblemLog()
    return DeepLabCutReader(**options).read(Tree(root), None, problems), list(problems)


class TestBoxAround:
    def test_by_hand(self):
        # 20 × 40: a margin of 0.1 × 40 on each side
        assert box_around([(10.0, 20.0), (30.0, 60.0)], 0.1, (100, 80)) == [6, 16, 34, 64]

    def test_cut_at_the_border(self):
        assert box_around([(1.0, 1.0), (99.0, 79.0)], 0.1, (100, 80)) == [0, 0, 100, 80]

    def test_points_on_a_line_and_no_margin(self):
        assert box_around([(10.0, 20.0), (10.0, 60.0)], 0.1, (100, 80)) == [6, 16, 14, 64]
        assert box_around([(10.0, 20.0)], 0.0, (100, 80)) == [9, 19, 11, 21]

    def test_all_outside(self):
        assert box_around([(200.0, 20.0), (210.0, 30.0)], 0.1, (100, 80)) == [199, 19, 211, 31]


class TestOneAnimal:
    def test_points_boxes_and_sizes(self, project):
        root = project(ONE, "scorer: Ann\nbodyparts: [tail, nose]\nskeleton:\n- [nose, tail]\n")
        chosen = choose_reader(Tree(root))
        assert chosen.reader.name == "deeplabcut"
        data, problems = read(root)
        assert data.classes == ["animal"]
        assert data.skeletons == {0: Skeleton(("tail", "nose"), ((1, 0),))}  # the order of config.yaml
        first, second = data.records
        assert first["file_name"] == str(root / "labeled-data/v/0.png")
        assert (first["width"], first["height"], first["image_id"]) == (100, 80, "labeled-data/v/0.png")
        annotation = first["annotations"][0]
        assert annotation["keypoints"] == [31, 60.5, 2, 10.5, 20.5, 2]
        assert annotation["bbox"] == [6.5, 16.5, 35, 64.5]
        assert annotation["id"] == "line 4"
        assert second["annotations"][0]["keypoints"] == [0, 0, 0, 10.5, 20.5, 2]
        assert [(problem.kind, problem.id) for problem in problems] == [("box-of-one-point", "line 5")]

    def test_margin_is_given(self, project):
        root = project(ONE)
        data, _ = read(root, box_margin=0.0)
        assert data.records[0]["annotations"][0]["bbox"] == [9.5, 19.5, 32, 61.5]

    def test_default_is_the_configs(self):
        from detectron2.config import get_cfg
        from rcnnkit.config import add_rcnnkit_config

        cfg = get_cfg()
        add_rcnnkit_config(cfg)
        assert DeepLabCutReader().box_margin == cfg.RCNNKIT.KEYPOINT_BOX_MARGIN

    def test_folder_or_file_alone(self, project):
        root = project(ONE)
        for path in (root / "labeled-data" / "v", root / "labeled-data" / "v" / "CollectedData_Ann.csv"):
            data, _ = read(path)
            assert len(data.records) == 2

    def test_windows_separators(self, project):
        data, _ = read(project(ONE.replace("labeled-data/v/", "labeled-data\\v\\")))
        assert len(data.records) == 2

    def test_one_of_two_scorers(self, project):
        project(ONE.replace("Ann", "Bob"), name="CollectedData_Bob.csv")
        root = project(ONE, "scorer: Bob\n")
        data, problems = read(root)
        assert [path.name for path in data.files] == ["CollectedData_Bob.csv", "config.yaml"]
        assert (problems[0].kind, problems[0].severity) == ("second-scorer", "warning")

    def test_copies_of_training_datasets(self, project):
        root = project(ONE)
        copy = root / "training-datasets" / "iteration-0" / "CollectedData_Ann.csv"
        copy.parent.mkdir(parents=True)
        copy.write_text(ONE)
        data, _ = read(root)
        assert len(data.files) == 1


class TestSeveralAnimals:
    def test_individuals_and_unique_parts(self, project):
        config = "bodyparts: MULTI!\nmultianimalbodyparts: [nose, tail]\nuniquebodyparts: [door]\n"
        data, problems = read(project(SEVERAL, config + "skeleton: [[nose, tail]]\n"))
        assert data.classes == ["animal", "single"]
        assert data.skeletons == {0: Skeleton(("nose", "tail"), ((0, 1),)), 1: Skeleton(("door",))}
        found = [[(a["category_id"], a["keypoints"], a["id"]) for a in r["annotations"]] for r in data.records]
        m1 = [1.5, 2.5, 2, 3.5, 4.5, 2]
        assert found == [
            [(0, m1, "line 5, m1"), (1, [50.5, 60.5, 2], "line 5, single")],
            [(0, m1, "line 6, m1"), (0, [5.5, 6.5, 2, 7.5, 8.5, 2], "line 6, m2")],
        ]
        assert [problem.kind for problem in problems] == ["box-of-one-point"]


class TestDamage:
    def kinds(self, root):
        return [(problem.kind, problem.id, problem.field) for problem in read(root)[1]]

    @pytest.mark.parametrize(
        ("row", "kind", "field"),
        [
            ("labeled-data/v/2.png,1,2", "row-length", "cells"),
            ("labeled-data/v/2.png,1,2,three,4", "keypoint-unreadable", "tail"),
            ("labeled-data/v/2.png,1,2,3,inf", "keypoint-unreadable", "tail"),
            ("labeled-data/v/2.png,1,2,3,", "keypoint-unreadable", "tail"),
            ("labeled-data/v/2.png,,,nan,NaN", "frame-unlabelled", None),
            ("labeled-data/v/9.png,1,2,3,4", "image-missing", "image"),
            ("../../outside.png,1,2,3,4", "image-outside", "image"),
            ("/etc/passwd,1,2,3,4", "image-outside", "image"),
            ("labeled-data/v/0.png,1,2,3,4", "image-listed-twice", "image"),
        ],
    )
    def test_row(self, project, row, kind, field):
        text = ONE.replace("10,20,,", "10,20,30,40")
        root = project(text)
        clean, problems = read(root)
        assert (len(clean.records), problems) == (2, [])
        root = project(text + row + "\n")
        assert (kind, "line 6", field) in self.kinds(root)

    def test_config_that_is_no_yaml(self, project):
        assert ("file-unreadable", None, None) in self.kinds(project(ONE, "scorer: [\n"))

    def test_skeleton_of_unknown_parts(self, project):
        found = self.kinds(project(ONE, "skeleton: [[nose, paw]]\n"))
        assert ("skeleton-unknown", None, "skeleton") in found

    def test_predictions_are_no_labels(self, project):
        text = "scorer,DLC,DLC,DLC\nbodyparts,nose,nose,nose\ncoords,x,y,likelihood\n0,1,2,0.9\n"
        root = project(text, name="videoDLC.csv")
        assert DeepLabCutReader().recognise(Tree(root)) is None
        with pytest.raises(UserError, match="no CSV file"):
            read(root)

    @pytest.mark.parametrize("end", range(0, len(ONE), 7))
    def test_truncated_anywhere(self, project, end):
        root = project(ONE[:end])
        try:
            data, _ = read(root)
        except UserError:
            return
        assert len(data.records) <= 2


@pytest.mark.realdata
def test_openfield(real_data):
    chosen = choose_reader(Tree(real_data / "openfield"))
    assert chosen.reader.name == "deeplabcut"
    problems = ProblemLog()
    data = chosen.reader.read(Tree(real_data / "openfield"), None, problems)
    assert (len(data.records), data.num_annotations(), len(problems)) == (60, 60, 0)
    assert data.skeletons[0].names == ("snout", "leftear", "rightear", "tailbase")
    for record in data.records:
        assert (record["width"], record["height"]) == (640, 480)
        (annotation,) = record["annotations"]
        points = annotation["keypoints"]
        x0, y0, x1, y1 = annotation["bbox"]
        assert points[2::3] == [2, 2, 2, 2]
        assert all(x0 < x < x1 and y0 < y < y1 for x, y in zip(points[::3], points[1::3]))
    assert data.records[0]["annotations"][0]["keypoints"][:2] == [22.021, 265.928]
