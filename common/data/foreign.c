/* foreign.c - files that hold no UTF-8 text, by their first bytes: a table of signatures, and UTF-16 and UTF-32 by
 * their byte order mark or by where their zero bytes are. A short signature made of letters could begin a text, so
 * it only counts where a zero byte is near. */
#include "common/data/textfile.h"

static const char rows[] = "write its rows as JSON lines (in Python: pandas.read_parquet, read_feather or read_sql, "
                           "then to_json(orient='records', lines=True))",
                  unpack[] = "unpack it first and give the files inside";

static const struct { const char *name; size_t at; const char *signature; size_t length; const char *way; } known[] = {
#define BYTES(text) text, sizeof text - 1
    {"a Parquet file", 0, BYTES("PAR1"), rows},
    {"an Arrow or Feather file", 0, BYTES("ARROW1"), rows},
    {"an Arrow stream", 0, BYTES("\xFF\xFF\xFF\xFF"), rows},
    {"an Avro file", 0, BYTES("Obj\x01"), rows},
    {"an ORC file", 0, BYTES("ORC"), rows},
    {"an SQLite database", 0, BYTES("SQLite format 3"), rows},
    {"a zip archive (or a file made like one: docx, xlsx, npz, a PyTorch checkpoint)", 0, BYTES("PK\x03\x04"), unpack},
    {"a 7z archive", 0, BYTES("7z\xBC\xAF\x27\x1C"), unpack},
    {"a rar archive", 0, BYTES("Rar!\x1A\x07"), unpack},
    {"a tar archive", 257, BYTES("ustar"), unpack},
    {"packed with xz", 0, BYTES("\xFD" "7zXZ"), "unpack it: xz -d"},
    {"packed with bzip2", 4, BYTES("1AY&SY"), "unpack it: bzip2 -d"},
    {"packed with lz4", 0, BYTES("\x04\x22\x4D\x18"), "unpack it: lz4 -d"},
    {"packed with lzip", 0, BYTES("LZIP"), "unpack it: lzip -d"},
    {"packed with zstd", 0, BYTES("\x28\xB5\x2F\xFD"), "unpack it (zstd -d), or install libzstd-dev and build again "
     "(make clean all): .zst files are read then"},
    {"a PDF document", 0, BYTES("%PDF-"), "extract its text first: pdftotext"},
    {"an old Office document", 0, BYTES("\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1"), "save it as text first"},
    {"a PNG image", 0, BYTES("\x89PNG\r\n"), "leave it out"},
    {"a JPEG image", 0, BYTES("\xFF\xD8\xFF"), "leave it out"},
    {"a GIF image", 0, BYTES("GIF8"), "leave it out"},
    {"a sound or video file", 0, BYTES("RIFF"), "leave it out"},
    {"an Ogg file", 0, BYTES("OggS"), "leave it out"},
    {"a program (ELF)", 0, BYTES("\x7F" "ELF"), "leave it out"},
    {"a GGUF model", 0, BYTES("GGUF"), "leave it out: it holds weights, not text"},
    {"a NumPy array", 0, BYTES("\x93NUMPY"), "decode its tokens to text first"},
    {"an HDF5 file", 0, BYTES("\x89HDF\r\n"), rows},
    {"a shard of tokens", 0, BYTES("QSHARD\r\n"), "give the text it was made from"},
    {"a checkpoint", 0, BYTES("\x89QCK"), "give it with --model"},
#undef BYTES
};

/* The name of a wider encoding, or NULL: a byte order mark, or zeros that are all in the upper halves of units. */
static const char *wide_encoding(const unsigned char *s, size_t n)
{
    static const struct { const char *name, *mark; size_t length; } marks[] = {
        {"UTF-32LE", "\xFF\xFE\0\0", 4}, {"UTF-32BE", "\0\0\xFE\xFF", 4}, {"UTF-16LE", "\xFF\xFE", 2},
        {"UTF-16BE", "\xFE\xFF", 2}};
    for (int i = 0; i < 4; i++)
        if (n >= marks[i].length && memcmp(s, marks[i].mark, marks[i].length) == 0) return marks[i].name;
    size_t zero[4] = {0}, units = (n < 4096 ? n : 4096) / 4;
    for (size_t i = 0; i < 4 * units; i++) zero[i % 4] += s[i] == 0;
    if (units == 0) return NULL;
    if (zero[3] == units && zero[2] == units && zero[0] == 0) return "UTF-32LE";
    if (zero[0] == units && zero[1] == units && zero[3] == 0) return "UTF-32BE";
    if (zero[0] + zero[2] == 0 && zero[1] + zero[3] >= units) return "UTF-16LE";
    if (zero[1] + zero[3] == 0 && zero[0] + zero[2] >= units) return "UTF-16BE";
    return NULL;
}

int foreign_check(const char *path, const void *data, size_t n, struct error *error)
{
    const unsigned char *s = data;
    bool zeros = memchr(data, 0, n) != NULL;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        size_t length = known[i].length;
        if (n < known[i].at + length || memcmp(s + known[i].at, known[i].signature, length) != 0) continue;
        if (length <= 4 && s[0] < 0x80 && !zeros && known[i].signature[1] != '\xB5') continue;
        return fail(error, EXIT_DATA, "%s is %s, expected text, JSON lines or a JSON array in UTF-8: %s", path,
                    known[i].name, known[i].way);
    }
    if (n > 8 && s[8] == '{' && s[7] == 0 && s[6] == 0 && s[5] == 0 && s[4] == 0)
        return fail(error, EXIT_DATA, "%s is a safetensors file, expected text: leave it out, it holds weights", path);
    const char *encoding = wide_encoding(s, n);
    if (!encoding) return 0;
    return fail(error, EXIT_DATA, "%s is text in %s, expected UTF-8: convert it (iconv -f %s -t UTF-8 OLD >NEW)", path,
                encoding, encoding);
}
