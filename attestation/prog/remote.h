/* The remote verifier (NRAS): one request a kind of device, and every check of its tokens. REF-A 6 */
#ifndef CCN_ATTESTATION_PROG_REMOTE_H
#define CCN_ATTESTATION_PROG_REMOTE_H

#include "attestation/prog/collect.h"

/**
 * remote_judge() - the GPUs or the switches of @c
 * Return: 0 and a verdict of the tokens, with claims; a service that does not answer is a verdict ATT_UNAVAILABLE
 * @eat: what the service sent; the caller's, NULL when nothing came
 */
int remote_judge(const struct opts *opts, const struct collection *c, enum att_kind kind,
                 struct att_verdict **ret, char **eat, struct err *err);

#endif
