"""The table: each setting and request field once, with its kind, default, meaning and spellings.

Settings, request checks, sampling parameters, command-line flags, `config.toml` and the README's table are made from
it. Names are those of the settings file and of `POST /generate`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from llorch.fields.field import DEFAULTS, MODEL, SERVER, Field
from llorch.fields.kinds import (
    BOOLEAN,
    choice,
    hosts,
    integer,
    number,
    origins,
    path,
    positive_or_all,
    strings,
    text,
)
from llorch.fields.sampling_table import SAMPLING
from llorch.fields.token_kinds import prompt, token_ids

_N_PREDICT = 256
MAX_STOP_IDS = 128
"""Most tokens that a request may name as ends of its text."""
MAX_LOGPROBS = 20
"""Most tokens of which a request may ask how probable they are, beside the one that is there."""

# fmt: off
TABLE = (
    Field("model", path(), "demo", MODEL, flags=("-m", "--model"), metavar="PATH",
          words='a .gguf file, a Hugging Face directory or an .onnx file; "demo", the small story-teller that comes '
                'with llorch; or the name of a model that `llorch pull` has fetched, such as "smollm2"'),
    Field("alias", text(), None, MODEL, flags=("-a", "--alias"), metavar="NAME", example="my-model",
          words="the model's name for clients; without it, what the file calls itself"),
    Field("ctx_size", integer(0), 0, MODEL, flags=("-c", "--ctx-size"),
          words="tokens a sequence may hold, prompt and answer together; 0: as many as the model was trained on"),
    Field("parallel", integer(1, 256), 4, MODEL, flags=("-np", "--parallel"),
          words="sequences computed at the same time; more requests wait"),
    Field("batch_size", integer(1, 65536), 512, MODEL, flags=("-b", "--batch-size"),
          words="most tokens in one forward pass; a long prompt is read in pieces of this size"),
    Field("threads", integer(0, 1024), 0, MODEL, flags=("-t", "--threads"),
          words="compute threads; 0: as many as suit the CPU affinity, the container's quota and the physical cores"),
    Field("pin_threads", BOOLEAN, False, MODEL,
          words="bind every compute thread to a core of its own; for machines that compute nothing else"),
    Field("numa", choice("off", "distribute", "isolate", "numactl"), "off", MODEL,
          words='on machines with several memory nodes: "distribute" shares threads and packed weights out evenly, '
                '"isolate" computes on the node where llorch was started, "numactl" and "off" take the CPUs they are '
                "given"),
    Field("kv_type", choice("f16", "f32"), "f16", MODEL,
          words='number type of the KV cache; "f16" takes half the memory of "f32"'),
    Field("prefix_cache", BOOLEAN, True, MODEL, flags=("--prefix-cache", "--cache-prompt"),
          words="keep what was computed of earlier requests as long as there is room, so that one which begins alike "
                "starts sooner; the results are the same"),
    Field("prefix_cache_dir", path(), None, MODEL, flags=("--cache-dir", "--prefix-cache-dir"), metavar="FOLDER",
          example="/var/cache/llorch-prefixes",
          words="a folder where that is kept across restarts too; it tells what requests were about, so nobody else "
                "may use it"),
    Field("prefix_cache_dir_mib", integer(1), 4096, MODEL, flags=("--cache-dir-mib", "--prefix-cache-dir-mib"),
          words="most that the folder may take, in MiB; what was used longest ago goes first"),
    Field("weights", choice("auto", "packed", "mapped"), "auto", MODEL,
          words='where the weights are: "packed" re-tiles them into memory at load, which is fastest; "mapped" uses '
                'them in the file, which starts at once and shares memory between processes; "auto" takes what suits'),
    Field("draft", choice("off", "ngram"), "off", MODEL,
          words='"ngram" computes ahead where a text repeats itself: the same answers, in fewer steps; for few users'),
    Field("override_pre", text(), None, MODEL, metavar="NAME", example="llama-bpe",
          words="how words are cut before byte-level BPE, in place of what the file names (`tokenizer.ggml.pre`)"),
    Field("chat_template", text(), None, MODEL, flags=("--chat-template", "--chat-template-file"),
          metavar="NAME|FILE|TEXT", example="chatml",
          words="how messages become a prompt, in place of the file's own template: llama2, llama3, chatml or zephyr, "
                "a file that holds a Jinja template, or the template itself"),

    Field("prompt", text(), None, is_request=True, others_say=("inputs",), python_kind=prompt(),
          words="the text to continue, at most as long as the setting `max_prompt_chars`; or give `token_ids`"),
    Field("token_ids", token_ids(), None, is_request=True, others_say=("input_ids", "prompt_token_ids"),
          words="the prompt as ids, taken as they are (no BOS is added)"),
    Field("n_predict", positive_or_all(), _N_PREDICT, DEFAULTS, flags=("-n", "--n-predict", "--predict"),
          words="most tokens to generate, unless a request has `max_tokens`; -1: as many as the context holds"),
    Field("max_tokens", integer(1), _N_PREDICT, is_request=True,
          others_say=("max_new_tokens", "n_predict", "num_predict", "max_completion_tokens", "n"),
          words="most tokens to generate; the context may end the text earlier"),
    *SAMPLING,
    Field("stop", strings(max_strings=16, max_chars=100), None, is_request=True, others_say=("stop_sequences",),
          metavar="TEXT",
          words="the text ends before any of these strings; one alone may stand without brackets"),
    Field("stop_token_ids", token_ids(most=MAX_STOP_IDS), (), is_request=True,
          words="tokens that end the text as the model's own end does: they are not part of it"),
    Field("seed", integer(0, 2**64 - 1), None, is_request=True,
          words="the same seed gives the same text; made, and reported, when absent"),
    Field("min_tokens", integer(0), 0, is_request=True,
          words="before so many tokens, neither the model's end of the text nor a stop string or token ends it"),
    Field("ignore_eos", BOOLEAN, False, is_request=True,
          words="go on to `max_tokens`, past the model's end of the text"),
    Field("logprobs", integer(0, MAX_LOGPROBS), None, is_request=True, others_say=("n_probs", "top_logprobs"),
          words="say of each token how probable it was, and so many of the most probable ones beside it; `stream: "
                "false` lists it as `logprobs`"),
    Field("stream", BOOLEAN, True, is_request=True,
          words="server-sent events, or one JSON body"),
    Field("receipt", BOOLEAN, False, is_request=True,
          words="end the answer with a receipt, which `llorch verify-receipt` computes again"),
    Field("timeout_s", number(0, 86400, excludes_low=True), None, is_request=True, others_say=("timeout",),
          words="seconds from the request's acceptance to its end; the header X-Request-Timeout says the same; the "
                "setting `request_timeout_s` may end it earlier"),
    Field("job_id", text("a string of 1 to 64 characters from A-Z a-z 0-9 . _ : -", "^[A-Za-z0-9._:-]{1,64}$"), None,
          is_request=True, others_say=("request_id", "id"),
          words="name for `POST /cancel`; made when absent"),
    Field("pooling", choice("mean", "last"), "mean", DEFAULTS,
          words='embeddings: one vector is made of those of all tokens, their "mean", or it is that of the "last" one'),

    Field("host", text(), "127.0.0.1", SERVER, metavar="ADDRESS",
          words="where to listen; 127.0.0.1: this machine only; with any other address, set an api_key; a path, which "
                "has a slash or ends in .sock: a Unix socket"),
    Field("port", integer(0, 65535), 8080, SERVER,
          words="port to listen on; 0: any free one"),
    Field("socket_mode", choice("600", "660", "666"), "600", SERVER,
          words="who may connect to a Unix socket: its user, its group too, everybody"),
    Field("ssl_cert_file", path(), None, SERVER, metavar="FILE", example="/etc/llorch/fullchain.pem",
          words="certificates in PEM, the server's first: it then speaks TLS (https)"),
    Field("ssl_key_file", path(), None, SERVER, metavar="FILE", example="/etc/llorch/privkey.pem",
          words="the certificate's private key in PEM, not encrypted"),
    Field("api_key", text(), None, SERVER, metavar="KEY", example="...",
          words="clients must send it (Authorization: Bearer KEY); commas separate several; others see it in a flag, "
                "so better say `api_key_file` or LLORCH_API_KEY"),
    Field("api_key_file", path(), None, SERVER, metavar="FILE", example="/run/secrets/llorch_key",
          words="a file that holds API keys, one on each line, as `key` or `name: key`"),
    Field("admin_key", text(), None, SERVER, metavar="KEY", example="...",
          words="the key of whoever runs the server, for /trace/start and /trace/stop, which nobody may use without "
                "one; like `api_key`, better said by `admin_key_file` or LLORCH_ADMIN_KEY"),
    Field("admin_key_file", path(), None, SERVER, metavar="FILE", example="/run/secrets/llorch_admin_key",
          words="a file that holds such keys, one on each line, as `key` or `name: key`"),
    Field("allowed_hosts", hosts(), (), SERVER, metavar="NAMES",
          words='names by which clients may call this server beside localhost, as its proxy hands them on (Host '
                'header); "*": any; with an api_key all may'),
    Field("cors_origins", origins(), (), SERVER, metavar="ORIGINS",
          words='web sites whose pages may use this server from a browser, as "https://chat.example"; "*": all; none: '
                "browsers let only its own pages"),
    Field("page", BOOLEAN, True, SERVER, flags=("--page", "--ui", "--webui"),
          words="serve a page at / to chat with the model in a browser"),
    Field("max_waiting", integer(0), 64, SERVER,
          words="requests of one API key that may wait for a free sequence; more are told to come back (503 with "
                "Retry-After)"),
    Field("request_timeout_s", number(0, 86400), 0.0, SERVER,
          words="seconds that a request may take from its acceptance to its end, its wait in the queue included; a "
                "client may ask for less, not for more; 0: no limit"),
    Field("max_answer_tokens", integer(0), 0, SERVER,
          words="most tokens that a request may ask for (`max_tokens` and its other names), and that it gets when it "
                "does not say; 0: as many as the context holds"),
    Field("max_choices", integer(1, 64), 64, SERVER,
          words="most answers to each prompt that a request may ask for (`n`)"),
    Field("max_prompt_chars", integer(1), 32768, SERVER,
          words="longest prompt, in characters"),
    Field("max_body_bytes", integer(1024), 1 << 20, SERVER,
          words="largest request body, in bytes"),
    Field("keep_alive_s", number(0, 3600, excludes_low=True), 15.0, SERVER,
          flags=("--keep-alive-s", "--sse-ping-interval"),
          words="a stream gets a comment line every so many seconds, so that proxies keep it open"),
    Field("send_timeout_s", number(0, 3600, excludes_low=True), 30.0, SERVER,
          flags=("--send-timeout-s", "-to", "--timeout"),
          words="a client that reads nothing from its stream for so many seconds is dropped"),
    Field("shutdown_grace_s", number(0, 3600), 10.0, SERVER,
          words='seconds that running requests have to finish on SIGTERM; then they end with finish_reason "abort"'),
    Field("log_format", choice("text", "json"), "text", SERVER,
          words='"text" for people, "json" for machines: one object per line'),
    Field("log_level", choice("debug", "info", "warning", "error"), "info", SERVER,
          words="lowest level that is logged"),
    Field("metrics_names", choice("llorch", "vllm"), "llorch", SERVER,
          words='"vllm" adds vLLM\'s names to /metrics, which gateways of Kubernetes and many dashboards ask for'),
    Field("metrics_without_key", BOOLEAN, False, SERVER,
          words="let /metrics be read without an api_key; it shows numbers and the model's name"),
    Field("otel_endpoint", text("an address that begins with http:// or https://", "^https?://[^/?#\\s]+[^?#\\s]*$"),
          None, SERVER, metavar="URL", example="http://localhost:4318",
          words="send a span of each request to this collector (OpenTelemetry, OTLP over HTTP); needs "
                "`pip install 'llorch[otel]'`"),
)
# fmt: on

FIELDS = {entry.name: entry for entry in TABLE}
SETTINGS = {name: entry for name, entry in FIELDS.items() if entry.section is not None}
REQUEST = {name: entry for name, entry in FIELDS.items() if entry.is_request}


def suggest(name: str, known: Iterable[str]) -> str | None:
    """The one of `known` that `name` was probably meant to be."""
    word = name[:64].lower().replace("-", "_")
    known = list(known)
    begun = [longer for longer in known if len(word) >= 3 and longer.startswith(word)]
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return begun[0] if len(begun) == 1 else close[0] if close else None
