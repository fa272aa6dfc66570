>> {"jsonrpc":"2.0","id":1,"method":"eth_call","params":[{"authorizationList":[],"from":"0x9fbc26dded942b13318eda89513b51314a446b16","to":"0xbc05752fb58b08458bb03f39e2c8e6b09ced1cf8"},"latest"]}
<< {"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"err: EIP-7702 transaction with empty auth list (sender 0x9FBc26dDed942b13318eDa89513b51314A446b16) (supplied gas 50000000)"}}
