/* chat_jinja.c - one text per template of common/text/chat.c. */
#include "common/interop/chat_jinja.h"

#include <stddef.h>

const char *chat_jinja(enum chat_template template)
{
    switch (template) {
    case TEMPLATE_NONE:
        break;
    case TEMPLATE_QUARTET:
        return "{{- '<|endoftext|>' -}}"
               "{%- for m in messages -%}"
               "{{- '<|' + ('user' if m['role'] == 'tool' else m['role']) + '|>' + m['content'] + '<|end|>' -}}"
               "{%- endfor -%}"
               "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}";
    case TEMPLATE_CHATML:
        return "{%- for m in messages -%}"
               "{{- ('' if loop.first else '\\n') + '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' -}}"
               "{%- endfor -%}"
               "{%- if add_generation_prompt -%}{{- ('\\n' if messages else '') + '<|im_start|>assistant\\n' -}}{%- endif -%}";
    case TEMPLATE_LLAMA3:
        return "{{- '<|begin_of_text|>' -}}"
               "{%- for m in messages -%}"
               "{{- '<|start_header_id|>' + ('ipython' if m['role'] == 'tool' else m['role']) + '<|end_header_id|>\\n\\n' + "
               "m['content'] + '<|eot_id|>' -}}"
               "{%- endfor -%}"
               "{%- if add_generation_prompt -%}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}{%- endif -%}";
    case TEMPLATE_ALPACA:
        return "{{- '<|endoftext|>' -}}"
               "{%- for m in messages -%}"
               "{%- if m['role'] != 'system' -%}"
               "{%- if loop.first -%}{{- 'Below is an instruction that describes a task. Write a response that appropriately "
               "completes the request.' -}}{%- endif -%}"
               "{{- '\\n\\n### Response:\\n' if m['role'] == 'assistant' else '\\n\\n### Instruction:\\n' -}}"
               "{%- endif -%}"
               "{{- m['content'] + ('<|endoftext|>' if m['role'] == 'assistant' else '') -}}"
               "{%- endfor -%}"
               "{%- if add_generation_prompt -%}{{- '\\n\\n### Response:\\n' -}}{%- endif -%}";
    case TEMPLATE_VICUNA:
        return "{{- '<|endoftext|>' -}}"
               "{%- for m in messages -%}"
               "{%- if m['role'] != 'system' -%}"
               "{%- if loop.first -%}{{- 'A chat between a curious user and an artificial intelligence assistant. The "
               "assistant gives helpful, detailed, and polite answers to the user\\'s questions.' -}}{%- endif -%}"
               "{%- if m['role'] == 'assistant' -%}{{- ' ASSISTANT: ' -}}"
               "{%- else -%}{{- ('USER: ' if not loop.first and messages[loop.index0 - 1]['role'] == 'assistant' else "
               "' USER: ') -}}{%- endif -%}"
               "{%- endif -%}"
               "{{- m['content'] + ('<|endoftext|>' if m['role'] == 'assistant' else '') -}}"
               "{%- endfor -%}"
               "{%- if add_generation_prompt -%}{{- ' ASSISTANT: ' -}}{%- endif -%}";
    case TEMPLATE_MISTRAL:
        return "{{- '<s>' -}}"
               "{%- for m in messages -%}"
               "{%- if m['role'] == 'system' -%}{{- raise_exception('System role not supported') -}}{%- endif -%}"
               "{{- m['content'] + '</s>' if m['role'] == 'assistant' else '[INST] ' + m['content'] + ' [/INST]' -}}"
               "{%- endfor -%}";
    case TEMPLATE_ZEPHYR:
        return "{%- for m in messages -%}"
               "{{- ('' if loop.first else '\\n') + '<|' + ('user' if m['role'] == 'tool' else m['role']) + '|>\\n' + m['content'] + "
               "'</s>' -}}"
               "{%- endfor -%}"
               "{%- if add_generation_prompt -%}{{- ('\\n' if messages else '') + '<|assistant|>\\n' -}}{%- endif -%}";
    case TEMPLATE_GEMMA:
        return "{{- '<bos>' -}}"
               "{%- for m in messages -%}"
               "{%- if m['role'] == 'system' -%}{{- raise_exception('System role not supported') -}}{%- endif -%}"
               "{{- ('' if loop.first else '\\n') + '<start_of_turn>' + ('model' if m['role'] == 'assistant' else 'user') + '\\n' + "
               "(m['content'] | trim) + '<end_of_turn>' -}}"
               "{%- endfor -%}"
               "{%- if add_generation_prompt -%}{{- ('\\n' if messages else '') + '<start_of_turn>model\\n' -}}{%- endif -%}";
    case TEMPLATE_QWEN3:
        return "{%- set ns = namespace(question=-1) -%}"
               "{%- for m in messages -%}{%- if m['role'] == 'user' -%}{%- set ns.question = loop.index0 -%}{%- endif -%}"
               "{%- endfor -%}"
               "{%- for m in messages -%}"
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
               "{{- ('' if loop.first else '\\n') + '<|im_start|>' + ('user' if m['role'] == 'tool' else m['role']) + '\\n' + text + "
               "'<|im_end|>' -}}"
               "{%- endfor -%}"
               "{%- if add_generation_prompt -%}{{- ('\\n' if messages else '') + '<|im_start|>assistant\\n' -}}{%- endif -%}";
    case TEMPLATE_GLM4:
        return "{{- '[gMASK]<sop>' -}}"
               "{%- for m in messages -%}"
               "{%- set role = 'observation' if m['role'] == 'tool' else m['role'] -%}"
               "{%- if loop.first or messages[loop.index0 - 1]['role'] != 'assistant' or role == 'assistant' -%}"
               "{{- '<|' + role + '|>' -}}{%- endif -%}"
               "{{- '\\n' + m['content'] -}}"
               "{%- if role == 'assistant' -%}"
               "{{- '<|observation|>' if not loop.last and messages[loop.index0 + 1]['role'] == 'tool' else '<|user|>' -}}"
               "{%- endif -%}"
               "{%- endfor -%}"
               "{%- if add_generation_prompt -%}{{- '<|assistant|>\\n' -}}{%- endif -%}";
    }
    return NULL;
}
