-- Says how many bytes were read, exactly; wrk itself rounds them.
done = function(summary)
  print("exactly " .. summary.bytes .. " bytes")
end
