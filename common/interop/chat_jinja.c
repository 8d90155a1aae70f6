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
    }
    return NULL;
}
