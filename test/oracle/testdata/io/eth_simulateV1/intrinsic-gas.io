>> {"jsonrpc":"2.0","id":1,"method":"eth_simulateV1","params":[{"blockStateCalls":[{"calls":[{"gas":"0x1","to":"0xe0642646f1c7b36fb8968e11a6eea093ca31e7cf"}]}]},"latest"]}
<< {"jsonrpc":"2.0","id":1,"error":{"code":-38013,"message":"err: intrinsic gas too low: have 1, want 21000 (supplied gas 1)"}}
