/* Evidence to verdict to output: what verify and attest have in common. */
#ifndef CCN_ATTESTATION_PROG_JUDGE_H
#define CCN_ATTESTATION_PROG_JUDGE_H

#include "attestation/ccnattest.h"
#include "attestation/prog/opts.h"

/* judge_and_print() - exit status */
int judge_and_print(const struct opts *opts, const struct att_text *evidence, size_t n);

/* judge() - verification and policy. @policy_always: the built-in one when none was given. Return: 0, -errno (usage). */
int judge(const struct opts *opts, const struct att_text *evidence, size_t n, bool policy_always,
          struct att_verdict **ret, struct err *err);

/* judge_policy() - the policy of the options on a verdict; the built-in one when none was given and @always */
int judge_policy(const struct opts *opts, bool always, struct att_verdict *verdict,
                 struct err *err);
/* judge_key_set() - the public half of a key as a key set, for whoever validates the token; the caller's */
char *judge_key_set(const struct att_key *key);

#endif
