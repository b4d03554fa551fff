# SPDX-License-Identifier: MIT
# Installs what was built to a folder of its own and uses it from there.
#   cmake -D BUILD=<build folder> -P run.cmake
set(prefix ${BUILD}/install-spec)
file(REMOVE_RECURSE ${prefix})
unset(ENV{NEAP_LIBRARY})
set(ENV{LUA_PATH} "${prefix}/share/lua/5.1/?.lua;${prefix}/share/lua/5.1/?/init.lua;;")

function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE status OUTPUT_VARIABLE text ERROR_VARIABLE text)
  if(NOT status EQUAL 0)
    list(JOIN ARGN " " command)
    message(FATAL_ERROR "${command}\n${text}")
  endif()
endfunction()

run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${prefix})
run(${CMAKE_COMMAND} -S ${CMAKE_CURRENT_LIST_DIR} -B ${prefix}/user -G Ninja
    -D CMAKE_PREFIX_PATH=${prefix} -D CMAKE_BUILD_TYPE=Release)
run(${CMAKE_COMMAND} --build ${prefix}/user)
run(${prefix}/user/use_neap)
run(${prefix}/user/use_static)
set(ENV{PKG_CONFIG_PATH} ${prefix}/lib/pkgconfig)
run(sh -c "cc ${CMAKE_CURRENT_LIST_DIR}/main.c -o ${prefix}/use_pc \
  $(pkg-config --cflags --libs neap) && LD_LIBRARY_PATH=${prefix}/lib ${prefix}/use_pc")
run(luajit -e "local ffi = require 'ffi'
  require 'neap.ffi'
  local host = ffi.load '${prefix}/lib/libneap_host.so' -- finds its Lua files by itself
  ffi.cdef 'const char *neap_host_declarations(void)'
  ffi.cdef(ffi.string(host.neap_host_declarations()))
  local out, text = ffi.new 'neap_host *[1]', ffi.new 'char[512]'
  assert(host.neap_host_create(nil, out, text, 512) == 0, ffi.string(text))
  host.neap_host_close(out[0])")
run(luajit -e "local neap = require 'neap'
  assert(package.searchpath('neap', package.path):find('install-spec', 1, true))
  local kv = neap.kv.create()
  kv:set_optimizer(neap.optim.sgd { learning_rate = 1 })
  kv:init('w', neap.nd.ones(3))
  kv:push('w', neap.nd.ones(3))
  local out = neap.nd.ones(3)
  kv:pull('w', out)
  assert(out:totable()[3] == 0)")

# The program finds libraries and Lua files by where it lies.
unset(ENV{LUA_PATH})
run(${prefix}/bin/neap launch -n 2 -s 1 ${prefix}/bin/neap run ${CMAKE_CURRENT_LIST_DIR}/job.lua)
