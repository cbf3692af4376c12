"""The rows of the table that say how tokens are chosen.

Those of the second part need steps that few requests ask for; no setting gives them another default.
"""

from __future__ import annotations

from llorch.fields.field import DEFAULTS, Field
from llorch.fields.kinds import integer, number, strings
from llorch.fields.orders import ordered
from llorch.fields.token_kinds import biases, json_biases

_INT32_MAX = 2**31 - 1
STEPS = ("penalties", "dry", "top_n_sigma", "top_k", "typical_p", "top_p", "min_p", "xtc", "temperature")
"""The steps between logits and a draw, in the order that they have unless a request says otherwise."""

# fmt: off
SAMPLING = (
    Field("temperature", number(0, 2), 0.8, DEFAULTS, is_request=True, flags=("--temperature", "--temp"),
          words="0 takes the most probable token each time"),
    Field("top_k", integer(0, _INT32_MAX), 40, DEFAULTS, is_request=True,
          words="keep so many of the most probable tokens; 0 keeps all"),
    Field("top_p", number(0, 1), 0.95, DEFAULTS, is_request=True,
          words="of those, keep the most probable that sum up to this probability; 1 keeps all"),
    Field("min_p", number(0, 1), 0.05, DEFAULTS, is_request=True,
          words="drop tokens less probable than this times the most probable one; 0 drops none"),
    Field("repetition_penalty", number(0, 2, excludes_low=True), 1.0, DEFAULTS, is_request=True,
          flags=("--repetition-penalty", "--repeat-penalty"), others_say=("repeat_penalty",),
          words="above 1, recent tokens become less probable; 1 is off"),
    Field("presence_penalty", number(-2, 2), 0.0, DEFAULTS, is_request=True,
          words="subtracted once from the logit of a recent token"),
    Field("frequency_penalty", number(-2, 2), 0.0, DEFAULTS, is_request=True,
          words="subtracted from the logit of a recent token as often as it occurred"),
    Field("penalty_last_n", integer(-1, _INT32_MAX), 64, DEFAULTS, is_request=True,
          flags=("--penalty-last-n", "--repeat-last-n"), others_say=("repeat_last_n",),
          words="how many of the latest tokens, the prompt's too, are recent; -1: all, 0: none"),
    Field("logit_bias", json_biases(-100, 100, max_pairs=1024), None, is_request=True,
          python_kind=biases(-100, 100),
          words="token id (as a string) to a number added to its logit"),

    Field("samplers", ordered(*STEPS), STEPS, is_request=True,
          words="the steps that choose a token, in this order; what is not named is left out"),
    Field("typical_p", number(0, 1), 1.0, is_request=True, others_say=("typ_p",),
          words="keep the tokens whose surprise is nearest to the expected one, up to this probability; 1 keeps all"),
    Field("top_n_sigma", number(-1, 1000), -1.0, is_request=True,
          words="drop logits more than so many standard deviations below the largest; 0 and below drop none"),
    Field("xtc_probability", number(0, 1), 0.0, is_request=True,
          words="how often XTC drops, of the tokens that reach `xtc_threshold`, all but the least probable"),
    Field("xtc_threshold", number(0, 1), 0.1, is_request=True,
          words="probability from which XTC may drop a token; above 0.5 it drops none"),
    Field("dynatemp_range", number(0, 2), 0.0, is_request=True,
          words="the temperature follows the entropy, from `temperature` minus this to `temperature` plus this; 0 is "
                "off"),
    Field("dynatemp_exponent", number(0, 100), 1.0, is_request=True,
          words="power of the entropy (as a share of the largest possible) in that"),
    Field("dry_multiplier", number(0, 100), 0.0, is_request=True,
          words="DRY lowers the logit of a token that would go on repeating the text so far by this, times "
                "`dry_base` to the power of how much longer than `dry_allowed_length` the repeat is; 0 is off"),
    Field("dry_base", number(1, 100), 1.75, is_request=True,
          words="grows DRY's penalty with each token of the repeat"),
    Field("dry_allowed_length", integer(0, _INT32_MAX), 2, is_request=True,
          words="length of a repeat that DRY begins with"),
    Field("dry_penalty_last_n", integer(-1, _INT32_MAX), -1, is_request=True,
          words="how many of the latest tokens, the prompt's too, DRY searches for repeats; -1: all, 0: none"),
    Field("dry_sequence_breakers", strings(max_strings=16, max_chars=40), ("\n", ":", '"', "*"), is_request=True,
          words="DRY counts no repeat across these strings"),
    Field("mirostat", integer(0, 2), 0, is_request=True,
          words="1 and 2: Mirostat of that version keeps the surprise of the tokens near `mirostat_tau`; of the other "
                "steps only the temperature counts then"),
    Field("mirostat_tau", number(0, 100), 5.0, is_request=True,
          words="surprise that Mirostat aims at, in bits"),
    Field("mirostat_eta", number(0, 1), 0.1, is_request=True,
          words="how fast it learns"),
    Field("adaptive_target", number(-1, 1), -1.0, is_request=True,
          words="adaptive-p, after all other steps, prefers tokens whose probability is near this one, so that the "
                "mean of those chosen is; negative: off"),
    Field("adaptive_decay", number(0, 0.99), 0.9, is_request=True,
          words="weight of the earlier tokens in that mean, against the next one"),
)
# fmt: on
RARE_SAMPLING = tuple(
    entry.name for entry in SAMPLING if entry.section is None and entry.name != "logit_bias"
)
"""Names of the second part."""
