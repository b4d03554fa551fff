-- SPDX-License-Identifier: MIT
--- Checks what holds for all sources, whoever writes them:
--
--   arrows    kernels <- engine <- net <- lua <- examples: a room uses what stands to its left
--   entries   nothing new at the top of the tree
--   length    no file beyond 800 lines
--   opening   a source opens with its licence line, and says what it is for
--   library   no output, exit, signal handler or environment in kernels, engine and net
--
-- luajit spec/house.lua [root]: one line for each thing found; exit status 1 if there is one.

local root = arg[1] or '.'
local found = 0

local function report(where, ...)
  found = found + 1
  print(where .. ': ' .. (...):format(select(2, ...)))
end

-- ---- files ---------------------------------------------------------------------------------

-- What git knows or would add. Without git, or where it does not trust the folder of another user,
-- all but what builds leave behind.
local function list_files()
  local quoted = "'" .. root:gsub("'", "'\\''") .. "'"
  local pipe = io.popen('cd ' .. quoted .. [[ &&
    { [ -e .git ] && git ls-files -co --exclude-standard 2>/dev/null; } ||
      find . -type f ! -path "./.git/*" ! -path ./.git ! -path "./build/*" ! -path "./out/*" \
        ! -name "*.o" | sed "s,^\./,,"]])
  local files, set = {}, {}
  for name in pipe:lines() do
    files[#files + 1], set[name] = name, true
  end
  pipe:close()
  table.sort(files)
  return files, set
end

local files, exists = list_files()
if #files == 0 then report(root, 'no files here') end

local function read(name)
  local file = io.open(root .. '/' .. name, 'rb') -- nil: deleted, git not told yet
  if not file then return end
  local text = file:read('*a')
  file:close()
  return text
end

-- ---- rules ---------------------------------------------------------------------------------

local ENTRIES = {}
for name in ([[
  kernels engine net lua spec examples
  CMakeLists.txt CMakePresets.json README.md LICENSE CHANGELOG.md
  .ci .github .gitignore .gitattributes .editorconfig .clang-format .luacheckrc .busted
]]):gmatch('%S+') do ENTRIES[name] = true end

local ROOMS = { kernels = 1, engine = 2, net = 3, lua = 4, examples = 5, spec = 6 }

-- System headers that only rooms from the one named on may include.
local SYSTEM = {
  { '^pthread%.h$', 'engine' }, { '^threads%.h$', 'engine' },
  { '^sys/socket%.h$', 'net' }, { '^netinet/', 'net' }, { '^nng/', 'net' },
  { '^luajit', 'lua' }, { '^lua%.h', 'lua' }, { '^lauxlib%.h', 'lua' },
}

local function room_of(name)
  return name:match('^([^/]+)/')
end

-- "engine/../kernels/kernel.h" -> "kernels/kernel.h"
local function normal(path)
  local parts = {}
  for part in path:gmatch('[^/]+') do
    if part == '..' and #parts > 0 then
      parts[#parts] = nil
    elseif part ~= '.' then
      parts[#parts + 1] = part
    end
  end
  return table.concat(parts, '/')
end

local function check_includes(name, text)
  local room = room_of(name)
  local level = ROOMS[room]
  if not level then return end
  local folder = name:match('^(.*)/') or ''
  local function target_of(header)
    for _, from in ipairs { folder, '', 'engine' } do
      local path = normal(from .. '/' .. header)
      if exists[path] then return path end
    end
  end
  for header in ('\n' .. text):gmatch('\n%s*#%s*include%s*"([^"]+)"') do
    local target = target_of(header)
    if not target then
      report(name, 'includes "%s", which is nowhere', header)
    elseif (ROOMS[room_of(target)] or 0) > level then
      report(name, '%s must not use %s: includes "%s"', room, room_of(target), header)
    end
  end
  for header in ('\n' .. text):gmatch('\n%s*#%s*include%s*<([^>]+)>') do
    for _, rule in ipairs(SYSTEM) do
      if header:match(rule[1]) and level < ROOMS[rule[2]] then
        report(name, '<%s> is for %s and what stands right of it', header, rule[2])
      end
    end
  end
end

local function check_requires(name, text)
  local level = ROOMS[room_of(name)]
  if not level then return end
  for module in text:gmatch('require%s*%(?%s*[\'"]([%w_%.]+)[\'"]') do
    local room = module:match('^[^%.]+')
    if (ROOMS[room] or 0) > level then
      report(name, '%s must not use %s: requires "%s"', room_of(name), room, module)
    end
  end
end

local function check_length(name, text)
  local _, lines = text:gsub('\n', '')
  if lines > 800 then report(name, '%d lines; 800 is the most', lines) end
end

local COMMENTS = { ['/*'] = true, ['//'] = true, ['--'] = true, ['#'] = true }

local function check_opening(name, text)
  local lines = {}
  for line in (text:sub(1, 2000) .. '\n'):gmatch('([^\n]*)\n') do
    if not (#lines == 0 and line:match('^#!')) then lines[#lines + 1] = line end
  end
  if not (lines[1] or ''):find('SPDX-License-Identifier: MIT', 1, true) then
    report(name, 'does not open with "SPDX-License-Identifier: MIT"')
    return
  end
  local mark = (lines[2] or ''):match('^%s*([/%-#][%*/%-]?)') or ''
  if not (COMMENTS[mark] or COMMENTS[mark:sub(1, 1)]) then
    report(name, 'does not say what it is for, below its licence line')
  end
end

-- Comments and texts replaced by spaces, lines kept.
local function code_only(text)
  local function blank(part) return (part:gsub('[^\n]', ' ')) end
  local out, at = {}, 1
  while true do
    local start = text:find('[/"\']', at)
    if not start then break end
    out[#out + 1] = text:sub(at, start - 1)
    local first, stop = text:sub(start, start + 1), start
    if first == '/*' then
      stop = select(2, text:find('*/', start + 2, true))
    elseif first == '//' then
      stop = (text:find('\n', start, true) or #text + 1) - 1
    elseif first:sub(1, 1) ~= '/' then
      local quote = first:sub(1, 1)
      stop = start + 1
      while stop <= #text and text:sub(stop, stop) ~= quote do
        stop = stop + (text:sub(stop, stop) == '\\' and 2 or 1)
      end
    end
    stop = stop or #text
    local part = text:sub(start, stop)
    out[#out + 1] = part == '/' and part or blank(part)
    at = stop + 1
  end
  out[#out + 1] = text:sub(at)
  return table.concat(out)
end

local BANNED = {}
for name in ([[
  printf fprintf vprintf vfprintf puts fputs putchar perror
  exit _exit _Exit quick_exit abort atexit raise kill signal sigaction
  getenv setenv putenv secure_getenv environ
]]):gmatch('%S+') do BANNED[name] = true end

-- The two places where the library looks at the environment, because it was asked to.
local ALLOWED = { getenv = 'neap_options_env', environ = 'neap_job_options_env' }

local function check_library(name, text)
  local within, line_number = nil, 0
  for line in (code_only(text) .. '\n'):gmatch('([^\n]*)\n') do
    line_number = line_number + 1
    within = line:match('^[%w_][%w_ %*]-([%w_]+)%(') or within -- a definition's first line
    for word in (line:gsub('%f[%w_]environ%f[^%w_]', 'environ(')):gmatch('([%w_]+)%s*%(') do
      if BANNED[word] and ALLOWED[word] ~= within then
        report(('%s:%d'):format(name, line_number), '%s() is not for a library', word)
      end
    end
    if line:match('^}') then within = nil end
  end
end

-- ---- all of it -----------------------------------------------------------------------------

local seen = {}
for _, name in ipairs(files) do
  local entry = name:match('^[^/]+')
  if not ENTRIES[entry] and not seen[entry] then
    seen[entry] = true
    report(entry, 'is new at the top of the tree; give it a room, or a place in spec/house.lua')
  end
  local text = read(name)
  local kind = name:match('%.([%w]+)$')
  local is_c = kind == 'c' or kind == 'h' or kind == 'cu' or kind == 'def'
  local is_script = text and text:match('^#!')
  if text and (is_c or is_script or kind == 'lua' or kind == 'cmake' or kind == 'txt' and
      name:match('CMakeLists') or kind == 'md') then
    check_length(name, text)
    if kind ~= 'md' then check_opening(name, text) end
    if is_c then check_includes(name, text) end
    if kind == 'lua' then check_requires(name, text) end
    if is_c and (ROOMS[room_of(name)] or 9) <= ROOMS.net then check_library(name, text) end
  end
end

if found > 0 then
  print(('house: %d found in %d files'):format(found, #files))
  os.exit(1)
end
