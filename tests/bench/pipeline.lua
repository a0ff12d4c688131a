-- Sixteen requests in one write. wrk counts answers, so its figures are requests per second all the same.
init = function(args)
  local requests = {}
  for i = 1, 16 do
    requests[i] = wrk.format()
  end
  batch = table.concat(requests)
end

request = function()
  return batch
end
