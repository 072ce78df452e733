# SPDX-License-Identifier: MIT
"""Which dialogues stand for which line of the SMTP section, so that none is forgotten and none gets lost.

What has no dialogue is named with the test that shows it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
LINES = {
    "EHLO, HELO": "ehlo_lists_extensions helo_gets_one_line ehlo_without_name ehlo_keeps_auth greeting",
    "AUTH PLAIN": "auth_plain_initial auth_plain_challenge auth_plain_with_authzid auth_plain_latin1",
    "AUTH LOGIN": "auth_login_challenges auth_login_initial auth_login_pipelined auth_login_bare_lf",
    "base64 with or without padding": "auth_plain_without_padding auth_malformed",
    "* cancels": "auth_cancelled",
    "PIPELINING": "pipelining pipelining_data_sent_ahead",
    "SIZE": "mail_size mail_malformed_size_and_body mail_parameter_twice",
    "8BITMIME": "data_keeps_odd_octets commands_in_any_case",
    "commands in any case": "commands_in_any_case verb_with_letters_beyond_ascii_is_unknown",
    "MAIL FROM:<>": "mail_null_reverse_path",
    "lenient": "mail_with_blanks mail_without_brackets mail_foreign_parameters command_ends_in_bare_lf trailing_blanks",
    "TLS on a plain port": "tls_on_a_plain_port tls_on_a_plain_port_with_line_ends",
    "only CR LF . CR LF": "data_bare_line_ends_are_no_end data_dots data_empty bare_cr_does_not_end_a_command",
    "waiting behind LF . LF": "timeout_behind_lf_dot_lf",
    "250 means 202": "queued_names_our_id hangup_in_data",
    "an error costs no connection": "data_refused_for_now data_refused_for_good two_messages rcpt_bad_recipient",
    "third failed AUTH": "auth_third_failure_closes auth_failures_count_across_ehlo auth_unavailable_does_not_count",
    "20th bad command": "twentieth_bad_command_closes refusals_are_no_bad_commands",
    "unknown mechanism": "auth_unknown_mechanism auth_without_mechanism",
    "before AUTH": "before_auth mail_without_auth",
    "line lengths": "command_of_512_octets mail_of_2048_octets auth_line_up_to_12288 auth_line_too_long"
    " command_far_too_long",
    "wrong order": "mail_before_ehlo mail_nested auth_in_transaction auth_twice data_without_valid_recipients",
    "syntax": "mail_syntax arguments_where_none_belong control_octets_in_a_command",
    "unknown, not offered": "unknown_and_not_offered",
    "over max_message_size": "data_over_the_limit data_at_the_limit",
    "timeouts": "timeout_for_a_command timeout_in_a_command timeout_in_auth timeout_in_data connection_lifetime",
    "recipients": "rcpt_over_the_limit",
    "addresses": "mail_bad_sender mail_odd_addresses",
    "a fault costs one session": "backend_fault",
    "STARTTLS": "starttls_hides_auth starttls_not_required starttls_takes_no_parameter starttls_without_certificate",
    "CHUNKING": "chunking_last chunking_in_pieces chunking_last_of_0_octets chunking_over_the_limit chunking_then_data"
    " chunking_without_recipients bdat_malformed",
    "SMTPUTF8": "smtputf8_addresses smtputf8_missing smtputf8_takes_no_value smtputf8_bad_octets",
    "bare_lf_networks": "bare_lf_ends_data bare_lf_but_no_bare_cr bare_lf_over_the_limit",
    "max_inflight_bytes": "budget_at_mail budget_at_data budget_while_reading budget_in_chunks budget_is_given_back",
    "allowed_from, allowed_recipients": "allowed_from allowed_recipients",
}
ELSEWHERE = {
    "STARTTLS forgets and discards": "e2e/test_tls.py::test_what_is_pipelined_behind_starttls_is_discarded",
    "over max_connections on the implicit port": "e2e/test_tls.py::test_over_max_connections_the_implicit_port_closes",
    "allowed_networks": "e2e/test_access.py::test_allowed_networks",
    "auth_limit": "e2e/test_access.py::test_auth_limit_over_several_connections",
    "proxy_protocol_networks": "e2e/test_access.py::test_behind_haproxy",
    "over max_connections": "unit/smtp/test_server.py::test_over_max_connections",
    "answer first when time runs out": "unit/smtp/test_session.py::test_time_that_runs_out_within_submit",
    "smuggling": "protocol/test_framing.py::test_smuggling",
}


@pytest.mark.parametrize("line", LINES)
def test_has_its_dialogues(line: str) -> None:
    for name in LINES[line].split():
        assert (TESTS / "protocol" / "dialogs" / f"{name}.smtp").is_file(), name


@pytest.mark.parametrize("line", ELSEWHERE)
def test_is_shown_elsewhere(line: str) -> None:
    path, _, function = ELSEWHERE[line].partition("::")
    assert f"def {function}(" in (TESTS / path).read_text(encoding="utf-8")
