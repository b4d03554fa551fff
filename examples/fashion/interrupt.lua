-- SPDX-License-Identifier: MIT
--- Notices Ctrl-C, and the SIGTERM of job schedulers, between two steps of a loop.
--
-- A signal handler written in Lua would not do: LuaJIT's hooks do not run in compiled code,
-- and a handler may run on any thread. So the signals are blocked, which makes the kernel
-- keep them, and the loop asks for them. Threads inherit what is blocked: M.block() must come
-- before the first use of Neap starts its workers. Linux.

local ffi = require 'ffi'

ffi.cdef [[
int sigemptyset(void *set);
int sigaddset(void *set, int signal);
int pthread_sigmask(int how, const void *set, void *old);
int sigtimedwait(const void *set, void *info, const void *timeout);
]]

local M = {}

local SIGINT, SIGTERM = 2, 15
local SIG_BLOCK = 0
local signals = ffi.new('uint64_t[16]') -- a sigset_t is 128 bytes in glibc and musl
local at_once = ffi.new('long[2]') -- a timespec of 0 s and 0 ns

--- Keeps SIGINT and SIGTERM back from now on.
function M.block()
  ffi.C.sigemptyset(signals)
  ffi.C.sigaddset(signals, SIGINT)
  ffi.C.sigaddset(signals, SIGTERM)
  assert(ffi.C.pthread_sigmask(SIG_BLOCK, signals, nil) == 0)
end

--- The number of a signal that came since the last call, or nil. Costs one system call.
---@return integer?
function M.pending()
  local signal = ffi.C.sigtimedwait(signals, nil, at_once)
  if signal > 0 then return signal end
end

return M
