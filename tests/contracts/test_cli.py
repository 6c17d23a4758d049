"""The command lines are frozen: people have them in scripts."""

import argparse
import importlib

import pytest

from detectron2.engine import default_argument_parser
from rcnnkit.cli import data
from rcnnkit.cli import main as cli
from rcnnkit.engine.setup import argument_parser

# Detectron2's own flags with the values that they have when left out, and `--device`, which is ours.
TRAIN_NET = {
    "--config-file": "",
    "--resume": False,
    "--eval-only": False,
    "--num-gpus": 1,
    "--num-machines": 1,
    "--machine-rank": 0,
    "--device": "",
}
COMMANDS = {
    "info": set(),
    "data": {"data_command", "rest"},
    "quickstart": {"--output", "--device", "--config-file", "opts"},
    "compat": {"path", "--quiet"},
}
DATA_COMMANDS = {"check": {"path", "--format", "--images", "--split", "--json", "--fix"}}


def arguments_of(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    actions = [action for action in parser._actions if not isinstance(action, argparse._HelpAction)]
    return {action.option_strings[0] if action.option_strings else action.dest: action for action in actions}


def test_flags_of_train_net():
    found = arguments_of(argument_parser())
    assert set(found) == {*TRAIN_NET, "--dist-url", "opts"}
    assert {flag: found[flag].default for flag in TRAIN_NET} == TRAIN_NET
    assert found["--dist-url"].default.startswith("tcp://127.0.0.1:")


def test_values_of_train_net():
    line = "--config-file a.yaml --resume --eval-only --num-gpus 2 --num-machines 3 --machine-rank 1 --device cpu"
    overrides = ["SOLVER.MAX_ITER", "10", "OUTPUT_DIR", "out"]
    parsed = argument_parser().parse_args([*line.split(), "--dist-url", "auto", *overrides])
    assert vars(parsed) == {
        "config_file": "a.yaml",
        "resume": True,
        "eval_only": True,
        "num_gpus": 2,
        "num_machines": 3,
        "machine_rank": 1,
        "dist_url": "auto",
        "device": "cpu",
        "opts": overrides,
    }


def test_the_engine_s_parser_lacks_only_the_device():
    assert set(arguments_of(argument_parser())) - set(arguments_of(default_argument_parser())) == {"--device"}


def test_commands_of_rcnnkit():
    assert set(cli.COMMANDS) == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_flags_of_a_command(name):
    parser = argparse.ArgumentParser()
    importlib.import_module(cli.COMMANDS[name][0]).add_arguments(parser)
    assert set(arguments_of(parser)) == COMMANDS[name]


@pytest.mark.parametrize("name", DATA_COMMANDS)
def test_flags_of_a_command_for_data(name):
    parser = argparse.ArgumentParser()
    importlib.import_module(data.COMMANDS[name][0]).add_arguments(parser)
    assert set(arguments_of(parser)) == DATA_COMMANDS[name]
