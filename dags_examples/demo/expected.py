"""What the examples should come to: the demo succeeds only if it all came out like this."""

from __future__ import annotations

from dags_examples.demo.summary import Expected, Refusal

EXPECTED = Expected(
    # The other DAGs follow from these.
    started=("secure_training", "refusals"),
    # The model of the day is published twice, the second time over the first.
    runs={"secure_training": 1, "score_visits": 1, "refusals": 1, "model_of_the_day": 2},
    refusals={
        ("refusals", "tampered"): Refusal(why="digest_differs", because="a bit was flipped"),
        ("refusals", "other_patients_file"): Refusal(
            why="context_differs", because="another patient's file lies under this name"
        ),
        ("refusals", "failed_expectations"): Refusal(
            why="expectation_failed", because="an age is negative"
        ),
        ("refusals", "forged_signature"): Refusal(
            why="signature_invalid", because="signed by somebody in the signer's name"
        ),
        ("refusals", "older_model_replayed"): Refusal(
            why="digest_differs", because="yesterday's model, rightly signed, in its place"
        ),
        ("refusals", "plain_where_sealed_is_due"): Refusal(
            why="not_sealed", because="a plain file lies there"
        ),
        ("refusals", "key_it_may_not_use"): Refusal(
            why="key_not_allowed", because="the rule for this folder names another key"
        ),
    },
    # These touch no data through the package: the attacker, and what only triggers.
    not_secured=frozenset(
        {
            ("refusals", "start_anew"),
            ("refusals", "attack"),
            ("refusals", "keep_a_copy"),
            ("refusals", "publish_yesterday"),
            ("refusals", "publish_today"),
        }
    ),
    counts={"validated": 1, "sealed": 11, "signed": 12, "opened": 4},
)
