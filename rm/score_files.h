/* score_files.h - rm --score: rewards for answers in files or on standard input. */
#ifndef QUARTET_SCORE_FILES_H
#define QUARTET_SCORE_FILES_H

/* Runs the whole command; returns the exit code. */
int score_files(int argc, char **argv);

#endif
