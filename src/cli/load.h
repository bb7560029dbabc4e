/* load.h: what most verbs share: the option groups of a model, a session and the sampler, opening
 * them with progress and messages, and getting the prompt. */
#ifndef NPUMOE_CLI_LOAD_H
#define NPUMOE_CLI_LOAD_H

#include "args.h"
#include "ui.h"

/* ---- option groups -------------------------------------------------------------------------- */

typedef struct model_args {
    const char *path; /* NULL = the demo model */
    const char *isa, *routes;
    npumoe_precision precision;
    int32_t threads, threads_batch;
    uint64_t memory_limit;
    bool mlock, check_tensors;
} model_args;

typedef struct session_args {
    int32_t ctx; /* -1 = the verb decides, 0 = what the model was trained for */
    int32_t batch, ubatch;
    npumoe_kv_type type_k, type_v;
} session_args;

typedef struct common_args {
    bool verbose, no_perf;
    const char *log_file;
} common_args;

typedef struct text_args {
    const char *prompt, *file;
    bool no_escape;
} text_args;

typedef struct sampling_args {
    npumoe_sampler_options opt;
    int64_t seed;
    npumoe_logit_bias *bias; /* owned; opt.logit_bias is set by sampling_make */
    size_t n_bias;
} sampling_args;

extern const cli_opt model_opts[];
extern const cli_opt model_file_opts[]; /* only -m: info, tokenize */
extern const cli_opt session_opts[];
extern const cli_opt common_opts[];
extern const cli_opt log_opts[]; /* common_opts without --no-perf */
extern const cli_opt text_opts[];
extern const cli_opt sampling_opts[];

#define SESSION_ARGS_DEFAULT                     \
    {                                            \
        .ctx = -1, .batch = 2048, .ubatch = 2048 \
    }

sampling_args sampling_default(void);
void sampling_free(sampling_args *s);

/* "f16", "q8_0" or "f32" */
bool cli_set_kv_type(const cli_opt *opt, void *field, const char *text, char *why,
                     size_t why_bytes);
const char *kv_type_name(npumoe_kv_type type);

/* "auto", "fast", "full" or "fp32" */
bool cli_set_precision(const cli_opt *opt, void *field, const char *text, char *why,
                       size_t why_bytes);
const char *precision_name(npumoe_precision precision);

/* ---- opening -------------------------------------------------------------------------------- */

/* The file that -m names, or the demo model beside the program, whose path buf takes. NULL: none. */
const char *model_find(const model_args *args, char *buf, size_t buf_bytes);
/* The same; says on standard error when it is the demo model, or that there is none. */
const char *model_path(const model_args *args, char *buf, size_t buf_bytes);

/* False, after a message that names the option, when this output file is the model or a part of it:
 * to write it would destroy what is being read. path may be NULL. */
bool spares_model(const model_args *model, const char *option, const char *path);
/* ui_log_open, unless the log file is the model. */
bool log_open(ui_log *log, const common_args *common, const model_args *model);

/* Loads; says why not. *load_seconds may be NULL. Returns an exit code, 0 = loaded. */
int model_open(const model_args *args, bool vocab_only, ui_log *log, npumoe_model **out,
               double *load_seconds);

/* -t and -tb: one pool serves prefill and decode, so the larger of the two counts. */
int32_t model_threads(const model_args *args);

/* The context that -c asks for; 0 = there is no -c. */
uint32_t given_ctx(const session_args *args, const npumoe_model *model);
npumoe_session_options session_options(const session_args *args, uint32_t n_ctx);

/* ---- prompts -------------------------------------------------------------------------------- */

/* The text of -p (with \n, \t ... replaced unless --no-escape), -f, or standard input. free() it.
 * false, with *text NULL, after a message. drop_newline: one final line feed of a file or of standard input is the
 * editor's or echo's, and is dropped. */
bool text_read(const text_args *args, bool drop_newline, char **text, size_t *bytes);
/* Replaces \n \r \t \\ \' \" \e \xHH in place; anything else stays. Returns the new length. */
size_t text_unescape(char *text, size_t bytes);

/* Tokens of a text; free() them. NULL after a message. */
npumoe_token *text_tokens(const npumoe_model *model, const char *text, size_t bytes, unsigned flags,
                          size_t *n_tokens);

/* True when the model's texts begin with a BOS token. */
bool model_adds_bos(const npumoe_model *model);

#endif
