>> {"jsonrpc":"2.0","id":1,"method":"eth_estimateGas","params":[{"from":"0x4716ab38a1859ade5eb5f03defa988f9cfc206d4","to":"0xe0642646f1c7b36fb8968e11a6eea093ca31e7cf","value":"0x1"},"latest"]}
<< {"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"failed with 16777216 gas: insufficient funds for gas * price + value: address 0x4716AB38a1859aDe5Eb5F03DeFA988F9CFC206d4 have 0 want 1"}}
