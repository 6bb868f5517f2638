/* A verdict for people, machines, or as the log of the 2023 guide. */
#ifndef CCN_ATTESTATION_PROG_PRINT_H
#define CCN_ATTESTATION_PROG_PRINT_H

#include "attestation/ccnattest.h"
#include "attestation/prog/opts.h"

/* print_verdict() - @token (detached EAT) and @jwks may be NULL. To standard output, or --output-file atomically.
 * Return: 0, -errno when it could not be written. */
int print_verdict(const struct opts *opts, const struct att_verdict *verdict, const char *token,
                  const char *jwks, struct err *err);
/* print_status() - exit status of a verdict */
int print_status(const struct att_verdict *verdict);
/* print_failure() - with JSON output, a document for a run that came to no verdict: result_code and result_message, claims
 * and token empty. With other outputs nothing. Return: 0, -errno of the output file. */
int print_failure(const struct opts *opts, const struct err *why, struct err *err);

#endif
