/* chat_jinja.c - one text per template of common/text/chat.c. */
#include "common/interop/chat_jinja.h"

#include <stddef.h>

#define EACH "{%- for m in messages -%}"
#define END "{%- endfor -%}"
#define PROMPT(text) "{%- if add_generation_prompt -%}{{- " text " -}}{%- endif -%}"
#define NO_SYSTEM "{%- if m['role'] == 'system' -%}{{- raise_exception('System role not supported') -}}{%- endif -%}"

static const char *const texts[] = {
    [TEMPLATE_QUARTET] =
        "{{- '<|endoftext|>' -}}" EACH
        "{{- '<|' + ('user' if m['role'] == 'tool' else m['role']) + '|>' + m['content'] + '<|end|>' -}}"
        END PROMPT("'<|assistant|>'"),
    [TEMPLATE_CHATML] =
        EACH
        "{{- ('' if loop.first else '\\n') + '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' -}}"
        END PROMPT("('\\n' if messages else '') + '<|im_start|>assistant\\n'"),
    [TEMPLATE_LLAMA3] =
        "{{- '<|begin_of_text|>' -}}" EACH
        "{{- '<|start_header_id|>' + ('ipython' if m['role'] == 'tool' else m['role']) + '<|end_header_id|>\\n\\n' + "
        "m['content'] + '<|eot_id|>' -}}"
        END PROMPT("'<|start_header_id|>assistant<|end_header_id|>\\n\\n'"),
    [TEMPLATE_ALPACA] =
        "{{- '<|endoftext|>' -}}" EACH
        "{%- if m['role'] != 'system' -%}"
        "{%- if loop.first -%}{{- 'Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.' -}}{%- endif -%}"
        "{{- '\\n\\n### Response:\\n' if m['role'] == 'assistant' else '\\n\\n### Instruction:\\n' -}}"
        "{%- endif -%}"
        "{{- m['content'] + ('<|endoftext|>' if m['role'] == 'assistant' else '') -}}"
        END PROMPT("'\\n\\n### Response:\\n'"),
    [TEMPLATE_VICUNA] =
        "{{- '<|endoftext|>' -}}" EACH
        "{%- if m['role'] != 'system' -%}"
        "{%- if loop.first -%}{{- 'A chat between a curious user and an artificial intelligence assistant. The "
        "assistant gives helpful, detailed, and polite answers to the user\\'s questions.' -}}{%- endif -%}"
        "{%- if m['role'] == 'assistant' -%}{{- ' ASSISTANT: ' -}}"
        "{%- else -%}{{- ('USER: ' if not loop.first and messages[loop.index0 - 1]['role'] == 'assistant' else "
        "' USER: ') -}}{%- endif -%}"
        "{%- endif -%}"
        "{{- m['content'] + ('<|endoftext|>' if m['role'] == 'assistant' else '') -}}"
        END PROMPT("' ASSISTANT: '"),
    [TEMPLATE_MISTRAL] =
        "{{- '<s>' -}}" EACH NO_SYSTEM
        "{{- m['content'] + '</s>' if m['role'] == 'assistant' else '[INST] ' + m['content'] + ' [/INST]' -}}"
        END,
    [TEMPLATE_ZEPHYR] =
        EACH
        "{{- ('' if loop.first else '\\n') + '<|' + ('user' if m['role'] == 'tool' else m['role']) + '|>\\n' + "
        "m['content'] + '</s>' -}}"
        END PROMPT("('\\n' if messages else '') + '<|assistant|>\\n'"),
    [TEMPLATE_GEMMA] =
        "{{- '<bos>' -}}" EACH NO_SYSTEM
        "{{- ('' if loop.first else '\\n') + '<start_of_turn>' + ('model' if m['role'] == 'assistant' else 'user') + "
        "'\\n' + (m['content'] | trim) + '<end_of_turn>' -}}"
        END PROMPT("('\\n' if messages else '') + '<start_of_turn>model\\n'"),
    [TEMPLATE_QWEN3] =
        "{%- set ns = namespace(question=-1) -%}"
        EACH "{%- if m['role'] == 'user' -%}{%- set ns.question = loop.index0 -%}{%- endif -%}" END
        EACH
        "{%- set text = m['content'] -%}{%- set thought = '' -%}"
        "{%- if m['role'] == 'assistant' -%}"
        "{%- if '</think>' in text -%}"
        "{%- set thought = text.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') -%}"
        "{%- set text = text.split('</think>')[-1].lstrip('\\n') -%}"
        "{%- endif -%}"
        "{%- if loop.index0 > ns.question and (loop.last or thought) -%}"
        "{%- set text = '<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' + text.lstrip('\\n') -%}"
        "{%- endif -%}"
        "{%- elif m['role'] == 'tool' -%}"
        "{%- set text = '<tool_response>\\n' + text + '\\n</tool_response>' -%}"
        "{%- endif -%}"
        "{{- ('' if loop.first else '\\n') + '<|im_start|>' + ('user' if m['role'] == 'tool' else m['role']) + "
        "'\\n' + text + '<|im_end|>' -}}"
        END PROMPT("('\\n' if messages else '') + '<|im_start|>assistant\\n'"),
    [TEMPLATE_GLM4] =
        "{{- '[gMASK]<sop>' -}}" EACH
        "{%- set role = 'observation' if m['role'] == 'tool' else m['role'] -%}"
        "{%- if loop.first or messages[loop.index0 - 1]['role'] != 'assistant' or role == 'assistant' -%}"
        "{{- '<|' + role + '|>' -}}{%- endif -%}"
        "{{- '\\n' + m['content'] -}}"
        "{%- if role == 'assistant' -%}"
        "{{- '<|observation|>' if not loop.last and messages[loop.index0 + 1]['role'] == 'tool' else '<|user|>' -}}"
        "{%- endif -%}"
        END PROMPT("'<|assistant|>\\n'"),
};

const char *chat_jinja(enum chat_template template)
{
    return (size_t)template < sizeof texts / sizeof *texts ? texts[template] : NULL;
}
