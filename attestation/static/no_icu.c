/* What a statically linked libxml2 wants of ICU, saying that there is no converter.
 *
 * libxml2 calls ICU only for documents in encodings it does not know itself; RIMs are read as UTF-8 whatever they declare
 * (rim.c), so none of this is ever reached. Without it the program would carry or load 36 MB of ICU at every start. */
#include <unicode/ucnv.h>

UConverter *ucnv_open(const char *name, UErrorCode *status)
{
    (void)name;
    *status = U_FILE_ACCESS_ERROR;
    return NULL;
}

void ucnv_close(UConverter *converter)
{
    (void)converter;
}

void ucnv_setFromUCallBack(UConverter *converter, UConverterFromUCallback action,
                           const void *context, UConverterFromUCallback *old_action,
                           const void **old_context, UErrorCode *status)
{
    (void)converter;
    (void)action;
    (void)context;
    (void)old_action;
    (void)old_context;
    *status = U_UNSUPPORTED_ERROR;
}

void ucnv_setToUCallBack(UConverter *converter, UConverterToUCallback action, const void *context,
                         UConverterToUCallback *old_action, const void **old_context,
                         UErrorCode *status)
{
    (void)converter;
    (void)action;
    (void)context;
    (void)old_action;
    (void)old_context;
    *status = U_UNSUPPORTED_ERROR;
}

void ucnv_convertEx(UConverter *to, UConverter *from, char **target, const char *target_limit,
                    const char **source, const char *source_limit, UChar *pivot_start,
                    UChar **pivot_source, UChar **pivot_target, const UChar *pivot_limit,
                    UBool reset, UBool flush, UErrorCode *status)
{
    (void)to;
    (void)from;
    (void)target;
    (void)target_limit;
    (void)source;
    (void)source_limit;
    (void)pivot_start;
    (void)pivot_source;
    (void)pivot_target;
    (void)pivot_limit;
    (void)reset;
    (void)flush;
    *status = U_UNSUPPORTED_ERROR;
}

void UCNV_FROM_U_CALLBACK_STOP(const void *context, UConverterFromUnicodeArgs *args,
                               const UChar *units, int32_t length, UChar32 code_point,
                               UConverterCallbackReason reason, UErrorCode *status)
{
    (void)context;
    (void)args;
    (void)units;
    (void)length;
    (void)code_point;
    (void)reason;
    (void)status;
}

void UCNV_TO_U_CALLBACK_STOP(const void *context, UConverterToUnicodeArgs *args, const char *units,
                             int32_t length, UConverterCallbackReason reason, UErrorCode *status)
{
    (void)context;
    (void)args;
    (void)units;
    (void)length;
    (void)reason;
    (void)status;
}
