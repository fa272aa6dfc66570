>> {"jsonrpc":"2.0","id":1,"method":"eth_estimateGas","params":[{"from":"0x4716ab38a1859ade5eb5f03defa988f9cfc206d4","gas":"0x5208","gasPrice":"0xba43b7400","to":"0xe0642646f1c7b36fb8968e11a6eea093ca31e7cf"},"latest"]}
<< {"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"insufficient funds for transfer"}}
