dnl SPDX-License-Identifier: ISC
dnl Compiler and linker flags, each asked of the compiler before it is used.
dnl They go to AM_CFLAGS and AM_LDFLAGS; CFLAGS stays the user's.

dnl PICODNS_TRY_CFLAG(flag): append flag to picodns_cflags if it compiles.
AC_DEFUN([PICODNS_TRY_CFLAG], [
	AC_MSG_CHECKING([whether $CC takes $1])
	picodns_save=$CFLAGS
	CFLAGS="$CFLAGS -Werror $picodns_cflags $1"
	AC_COMPILE_IFELSE([AC_LANG_PROGRAM([[#include <string.h>]], [[]])],
	    [AC_MSG_RESULT([yes]); picodns_cflags="$picodns_cflags $1"],
	    [AC_MSG_RESULT([no])])
	CFLAGS=$picodns_save
])

dnl PICODNS_TRY_LDFLAG(flag): append flag to picodns_ldflags if it links.
AC_DEFUN([PICODNS_TRY_LDFLAG], [
	AC_MSG_CHECKING([whether the linker takes $1])
	picodns_save=$LDFLAGS
	picodns_save_cflags=$CFLAGS
	CFLAGS="$CFLAGS $picodns_cflags"
	LDFLAGS="$LDFLAGS $picodns_ldflags $1"
	AC_LINK_IFELSE([AC_LANG_PROGRAM()],
	    [AC_MSG_RESULT([yes]); picodns_ldflags="$picodns_ldflags $1"],
	    [AC_MSG_RESULT([no])])
	CFLAGS=$picodns_save_cflags
	LDFLAGS=$picodns_save
])

AC_DEFUN([PICODNS_WARNINGS], [
	picodns_cflags=
	m4_foreach_w([flag], [-Wall -Wextra -Wcast-qual -Wformat=2
	    -Wmissing-prototypes -Wpointer-arith -Wshadow -Wstrict-prototypes
	    -Wundef -Wvla -Wwrite-strings],
	    [PICODNS_TRY_CFLAG(flag)])
	WARN_CFLAGS=$picodns_cflags
	AC_SUBST([WARN_CFLAGS])
])

AC_DEFUN([PICODNS_HARDENING], [
	picodns_cflags=
	picodns_ldflags=
	AS_IF([test "$enable_sanitizers" = yes], [
		picodns_cflags="-fsanitize=address,undefined \
-fno-sanitize-recover=undefined -fno-omit-frame-pointer"
		picodns_ldflags="-fsanitize=address,undefined"
	], [
		PICODNS_TRY_CFLAG([-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3])
		m4_foreach_w([flag], [-fstack-protector-strong
		    -fstack-clash-protection -fcf-protection=full
		    -mbranch-protection=standard -ftrivial-auto-var-init=zero
		    -fno-delete-null-pointer-checks -fno-strict-overflow],
		    [PICODNS_TRY_CFLAG(flag)])
		PICODNS_TRY_CFLAG([-fPIE])
		PICODNS_TRY_LDFLAG([-pie])
		PICODNS_TRY_LDFLAG([[-Wl,-z,relro]])
		PICODNS_TRY_LDFLAG([[-Wl,-z,now]])
		PICODNS_TRY_LDFLAG([[-Wl,-z,noexecstack]])
	])
	AS_IF([test "$enable_fuzzing" = yes],
	    [picodns_cflags="$picodns_cflags -fsanitize=fuzzer-no-link"])
	HARDEN_CFLAGS=$picodns_cflags
	HARDEN_LDFLAGS=$picodns_ldflags
	AC_SUBST([HARDEN_CFLAGS])
	AC_SUBST([HARDEN_LDFLAGS])
])
