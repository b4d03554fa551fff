-- SPDX-License-Identifier: MIT
-- Stores give the same whatever runs the work: their specs once more, each in a process of its
-- own, on the naive engine and on four threads.

local SPECS = { 'kv_values', 'kv_errors', 'kv_sparse', 'kv_compression', 'kv_optimizer' }
local ENGINES = {
  { name = 'the naive engine', environment = 'NEAP_ENGINE=naive' },
  { name = 'four threads', environment = 'NEAP_ENGINE=threaded NEAP_NUM_THREADS=4' },
}

for _, engine in ipairs(ENGINES) do
  describe(engine.name, function()
    for _, spec in ipairs(SPECS) do
      it('passes ' .. spec, function()
        local command = '%s busted --output=plainTerminal spec/lua/%s_spec.lua 2>&1; echo $?'
        local pipe = io.popen(command:format(engine.environment, spec))
        local output = pipe:read('*a')
        pipe:close()
        assert.matches('\n0\n$', output, nil, nil, output)
      end)
    end
  end)
end
