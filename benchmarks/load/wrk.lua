-- Argument: the file that wrk.py has written, a line with the length, the request, and so on.
-- Says "ready" when it has read them; the last line of its output is JSON.

local requests = {}
local count = 0
local at = 0

function init(args)
   local file = assert(io.open(args[1], "rb"))
   while true do
      local size = file:read("*l")
      if not size then break end
      count = count + 1
      requests[count] = file:read(tonumber(size))
   end
   file:close()
   io.write("ready\n")
   io.flush()
end

function request()
   at = at % count + 1
   return requests[at]
end

function done(summary, latency)
   local errors = summary.errors
   io.write(string.format(
      '{"requests": %d, "seconds": %.6f, "connect": %d, "read": %d, "write": %d, "timeout": %d, "status": %d, "p50": %.1f, "p99": %.1f}\n',
      summary.requests, summary.duration / 1e6, errors.connect, errors.read, errors.write, errors.timeout,
      errors.status, latency:percentile(50), latency:percentile(99)))
end
