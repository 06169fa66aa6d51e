"""The doctor: the machine is described without a network, and the checks answer under its name too."""

import json

from sonde import checks, doctor
from sonde.doctor import describe_machine


def test_the_machine_is_described_in_json() -> None:
    facts = json.loads(json.dumps(describe_machine().document()))
    assert facts["devices"][-1] == "cpu" and facts["threads"] >= 1 and facts["disk_free_gb"] > 0
    assert facts["codecs"]["jpeg"] and facts["parts"]["torch"].startswith(facts["torch"].split("+")[0])


def test_the_checks_of_a_set_answer_here_too() -> None:
    assert doctor.check is checks.check and doctor.CHECKS is checks.CHECKS
