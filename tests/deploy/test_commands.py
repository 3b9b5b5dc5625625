"""Every argument and every variable that deploy/ gives a process is one that the program knows."""

import chart
import command_line
import compose

# Variables that libraries read, by their own names.
STANDARD = {
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_SERVICE_NAME",
    "PGPASSFILE",
    "SSL_CERT_FILE",
}


def faults(program, arguments: list[str], variables: dict[str, str]) -> list[str]:
    """What is wrong with a command. `variables` are those that are set, with their values where these are known."""
    subcommand, *rest = arguments
    known = command_line.describe(program, subcommand)
    options = {argument.removeprefix("--").split("=")[0] for argument in rest}
    wrong = [f"--{option}" for option in options - set(known.options)]
    used = {name for value in variables.values() for name in variables if f"$({name})" in (value or "")}
    allowed = known.variables | STANDARD | used
    wrong += sorted(set(variables) - allowed)
    given = options | {option for option, variable in known.options.items() if variable in variables}
    return wrong + [f"no --{option}" for option in sorted(known.required - given)]


def test_the_chart(program, rendered):
    for pod in rendered.pods:
        assert "command" not in pod.container, "the image's entry point is the program"
        variables = {name: variable.get("value") for name, variable in pod.variables.items()}
        assert faults(program, pod.container["args"], variables) == [], pod.service
        assert len(variables) == len(pod.container["env"]), f"{pod.service} sets a variable twice"


def test_compose(program):
    for name, service in compose.processes().items():
        assert faults(program, service["command"], service["environment"]) == [], name


def test_a_wrong_command_is_found(program):
    right = {"RUNNEL_CONTEXT_KEY_FILE": "/key", "RUNNEL_POSTGRES": None}
    assert faults(program, ["ingest"], right) == []
    assert faults(program, ["ingest", "--verbose"], right) == ["--verbose"]
    assert faults(program, ["ingest"], right | {"RUNNEL_PEPER_FILE": "/pepper"}) == ["RUNNEL_PEPER_FILE"]
    assert faults(program, ["ingest"], right | {"POD": "a"}) == ["POD"]
    assert faults(program, ["ingest"], right | {"POD": "a", "OTEL_RESOURCE_ATTRIBUTES": "pod=$(POD)"}) == []
    assert faults(program, ["ingest"], {"RUNNEL_POSTGRES": None}) == ["no --context-key-file"]
