/* foreign.h - a model of another system while it is open: what its files said, and each of our parameters as the
 * tensors of theirs that it is made of.  Any byte of a parameter is read when it is asked for; nothing is kept. */
#ifndef QUARTET_FOREIGN_H
#define QUARTET_FOREIGN_H

#include "common/interop/gguf.h"
#include "common/interop/interop.h"
#include "common/model/params.h"
#include "format/reader.h"

/* One of our parameters: rows x columns (1 for a vector) from `pieces` tensors of theirs; none: zeros. */
struct target {
    char *name;
    enum slot slot;
    int pieces, ndim;
    struct st_tensor *piece[PIECES];
    bool transposed, decay;
    bool unit;                                  /* its rows are scaled to length 1 */
    int64_t rows, columns;
    uint32_t dtype;
    uint64_t shape[8];
};

struct foreign {
    const char *from;
    const char *kind;                           /* "Hugging Face folder" ... */
    const struct family *family, *names;        /* names: how its tensors are called and laid out */
    struct config config;
    json_t *tokenizer;                          /* as a tokenizer.json, or NULL */
    char *template;                             /* of chats, or NULL */
    json_t *document[4];                        /* what may separate documents, the first first: a text or id each, or NULL */
    json_t *end[3];                             /* what ends a text: a text, an id or several each, or NULL */
    struct safetensors tensors;
    struct target *target;
    size_t count;
    struct error *error;                        /* while targets are listed */
    int status;
};

/* Finds the tensors of every parameter that the configuration has: each there, of its shape, and none left over.
 * Returns 0, or -1 (EXIT_DATA, EXIT_IO). */
int foreign_map(struct foreign *m, struct error *error);
/* Its tensors as they are, under their own names. */
void foreign_raw(struct foreign *m);

/* Bytes of target number `tensor`, from any thread: 0, or -1 (EXIT_IO; EXIT_DATA: a scale that is not finite). */
int foreign_read(void *foreign, size_t tensor, void *out, uint64_t offset, size_t size, struct error *error);
/* foreign: from host_alloc. */
void foreign_close(void *foreign);

#endif
