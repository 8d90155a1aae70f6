/* test_reward_cmd.c - reward programs that behave, and those that do not.  They are one-line shell programs. */
#include "rlhf/reward.h"
#include "test/test.h"

#include <signal.h>

enum { N = 300 };

static struct bytes requests;
static float reward[N];

static int ask(const char *command, double timeout, int n, int times, struct error *error)
{
    struct reward_cmd *c;
    if (reward_cmd_open(&c, command, timeout, error) != 0) return -1;
    int bad = 0;
    size_t size = requests.size / N * (size_t)n;
    for (int i = 0; i < times && !bad; i++) bad = reward_cmd_ask(c, reward, n, requests.data, size, error);
    reward_cmd_close(c);
    return bad;
}

static void refused(const char *command, double timeout, const char *say)
{
    struct error error = {0};
    double start = seconds_now();
    int bad = ask(command, timeout, 10, 1, &error);
    test_check(bad != 0 && error.exit_code == EXIT_DATA && strstr(error.text, say), __FILE__, __LINE__,
               "%s: \"%s\", expected \"%s\"", command, error.text, say);
    CHECK(seconds_now() - start < 5);
}

int main(void)
{
    struct error error = {0};
    signal(SIGPIPE, SIG_IGN);
    for (int i = 0; i < N; i++) {               /* 1.2 MB in all: more than any pipe holds */
        char filler[4000];
        memset(filler, 'x', sizeof filler);
        bytes_text(&requests, "{\"response\":\"%03d%.*s\"}\n", i, 3900, filler);
    }
    CHECK(ask("sed -u 's/.*:\"0*\\([0-9][0-9]*\\)x.*/\\1.5/'", 5, N, 2, &error) == 0);     /* answers line by line */
    CHECK(reward[0] == 0.5f && reward[17] == 17.5f && reward[N - 1] == (float)(N - 1) + 0.5f);
    CHECK(ask("n=0; while read -r x; do n=$((n + 1)); echo -$n; done", 5, 1, 3, &error) == 0);
    CHECK(reward[0] == -3);                     /* one process, all the time */
    /* Reads all ten requests before it says anything; numbers in other spellings. */
    CHECK(ask("for i in 1 2 3 4 5 6 7 8 9 10; do read -r x; done; "
              "printf '1e-3\\r\\n  2 \\n+3\\n4\\n5\\n6\\n7\\n8\\n9\\n10\\n'; read x", 5, 10, 1, &error) == 0);
    CHECK(close_to((double)reward[0], 1e-3, 1e-6, 0) && reward[1] == 2 && reward[9] == 10);
    /* Floods us with answers while we still write. */
    CHECK(ask("n=0; while read -r x; do n=$((n + 1)); printf '%d%4000s\\n' $n ' '; done", 5, N, 1, &error) == 0 &&
          reward[N - 1] == N);

    refused("exit 3", 5, "ended with exit code 3 after 0 of 10 rewards");
    refused("read -r x; echo 1; kill -9 $$", 5, "was killed by signal 9 after 1 of 10");
    refused("no-such-program-here 2>/dev/null", 5, "ended with exit code 127");
    refused("sleep 60", 0.3, "silent for 0.3 seconds after 0 of 10");
    refused("read -r x; echo 1; while read -r x; do :; done", 0.3, "silent for 0.3 seconds after 1 of 10");
    refused("sed -u 's/.*/good/'", 5, "wrote \"good\" as reward 1 of 10");
    refused("sed -u 's/.*/1 2/'", 5, "wrote \"1 2\"");
    refused("sed -u 's/.*//'", 5, "wrote \"\"");
    refused("sed -u 's/.*/nan/'", 5, "wrote \"nan\"");
    refused("sed -u 's/.*/1e300/'", 5, "wrote \"1e300\"");
    refused("read -r x; head -c 100000 /dev/zero; cat >/dev/null", 5, "wrote \"\\x00\\x00");
    refused("read -r x; printf '1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n'; cat >/dev/null", 5,
            "wrote \"11\" as reward 11 of 10");

    CHECK(ask("exec <&-; sleep 9", 5, N, 1, &error) != 0 && strstr(error.text, "closed its input after 0 of 300"));
    CHECK(ask("exec >&-; sleep 9", 5, N, 1, &error) != 0 && strstr(error.text, "closed its output after 0 of 300"));

    /* A number too many that comes later must not become the answer to the next question. */
    struct reward_cmd *c;
    CHECK(reward_cmd_open(&c, "while read -r x; do echo 1; sleep 0.1; echo 2; done", 5, &error) == 0);
    CHECK(reward_cmd_ask(c, reward, 1, requests.data, requests.size / N, &error) == 0 && reward[0] == 1);
    usleep(400000);
    CHECK(reward_cmd_ask(c, reward, 1, requests.data, requests.size / N, &error) != 0 &&
          strstr(error.text, "wrote \"2\" without being asked"));
    reward_cmd_close(c);
    bytes_free(&requests);
    return test_end("test_reward_cmd");
}
