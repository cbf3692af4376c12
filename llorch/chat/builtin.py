"""Chat templates for models whose files have none, or the wrong one."""

from __future__ import annotations

_CHATML = """\
{%- for message in messages -%}
    {{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{ '<|im_start|>assistant\\n' }}
{%- endif -%}
"""

_LLAMA2 = """\
{%- set ns = namespace(system='') -%}
{%- for message in messages -%}
    {%- if message.role == 'system' -%}
        {%- set ns.system = '<<SYS>>\\n' + message.content + '\\n<</SYS>>\\n\\n' -%}
    {%- elif message.role == 'assistant' -%}
        {{ ' ' + message.content.strip() + ' ' + eos_token }}
    {%- else -%}
        {{ bos_token + '[INST] ' + ns.system + message.content.strip() + ' [/INST]' }}
        {%- set ns.system = '' -%}
    {%- endif -%}
{%- endfor -%}
"""

_LLAMA3 = """\
{%- for message in messages -%}
    {{ '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' + message.content.strip() + '<|eot_id|>' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif -%}
"""

_ZEPHYR = """\
{%- for message in messages -%}
    {{ '<|' + message.role + '|>\\n' + message.content + eos_token + '\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{ '<|assistant|>\\n' }}
{%- endif -%}
"""

BUILTIN = {"llama2": _LLAMA2, "llama3": _LLAMA3, "chatml": _CHATML, "zephyr": _ZEPHYR}
"""Templates by name.

Source: the formats as Meta's, OpenAI's and Hugging Face's model cards describe them, for conversations of text.
"""

FALLBACK = "chatml"
"""What a model without a template gets, as in llama-server."""
