# SPDX-License-Identifier: MIT
# Turns the marked part of neap.h into a C file that holds it as a string, so that LuaJIT reads
# the very declarations the library was built from, and no second copy can drift.
#
#   cmake -D HEADER=neap.h -D OUTPUT=declarations.c -P declarations.cmake
#
# Works on the text as a whole, never as a CMake list: declarations are full of semicolons.
file(READ "${HEADER}" text)

string(FIND "${text}" "/* [declarations:" begin)
string(FIND "${text}" "/* [end of declarations] */" end)
if(begin EQUAL -1 OR end EQUAL -1 OR end LESS begin)
  message(FATAL_ERROR "${HEADER}: the marks [declarations: ...] and [end of declarations] are gone")
endif()
math(EXPR length "${end} - ${begin}")
string(SUBSTRING "${text}" ${begin} ${length} text)
if(text MATCHES "\n[ \t]*#[^\n]*")
  message(FATAL_ERROR "${HEADER}: a preprocessor line within the declarations, which LuaJIT "
                      "cannot read:${CMAKE_MATCH_0}")
endif()

string(REPLACE "NEAP_API " "" text "${text}")
string(REPLACE "\\" "\\\\" text "${text}")
string(REPLACE "\"" "\\\"" text "${text}")
string(REPLACE "\n" "\\n\"\n    \"" text "${text}")
file(WRITE "${OUTPUT}" "/* Made by declarations.cmake from neap.h. */
#include \"${HEADER}\"

const char *neap_declarations(void) {
  static const char text[] =
    \"${text}\";
  return text;
}
")
