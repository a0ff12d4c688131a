/*
 * tine/errors.h - errors that several headers share. All functions return 0 or a negative errno; these are the ones with a
 * meaning of their own here.
 */
#ifndef TINE_ERRORS_H
#define TINE_ERRORS_H

#include <errno.h>

#define TINE_E_FULL      (-EAGAIN) /* no room at present */
#define TINE_E_GONE      (-ESRCH)  /* the receiver has left, or never was */
#define TINE_E_NOBODY    (-ENOENT) /* nobody is there to take it */
#define TINE_E_TOO_LARGE (-EMSGSIZE)
#define TINE_E_QUOTA     (-EDQUOT)
#define TINE_E_TIMEOUT   (-ETIMEDOUT) /* not by the deadline */
#define TINE_E_CANCELED  (-ECANCELED)
#define TINE_E_CLOSED    (-EPIPE)
#define TINE_E_CRASHED   (-EOWNERDEAD) /* the process that was at it has died */

#endif
